package sidecar

import (
	"strings"
	"testing"

	"pgevict/internal/config"
)

// TestHelpHasTheVariables holds what help prints against the configuration.
func TestHelpHasTheVariables(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := Help(&text, nil); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(text.String()), " ")
	for _, v := range config.Variables() {
		if !strings.Contains(text.String(), "\n"+v.Name+" ") || !strings.Contains(words, v.Default+" "+strings.Fields(v.Meaning)[0]) {
			t.Errorf("help does not name %s with its default and its meaning", v.Name)
		}
	}
}
