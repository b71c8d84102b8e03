package sidecar

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgevict/internal/config"
)

// TestHelpHasTheVariables holds what help prints against the configuration.
func TestHelpHasTheVariables(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := Help(&text); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(text.String()), " ")
	for _, v := range config.Variables() {
		if !strings.Contains(text.String(), "\n"+v.Name+" ") || !strings.Contains(words, v.Default+" "+strings.Fields(v.Meaning)[0]) {
			t.Errorf("help does not name %s with its default and its meaning", v.Name)
		}
	}
}

// TestReadmeHasTheVariables holds the README's table against the configuration.
func TestReadmeHasTheVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| variable | default | meaning |\n")
	if !found {
		t.Fatal("there is no table of variables")
	}
	plain := strings.NewReplacer("`", "", `\|`, "|")
	var have, want []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "| `") {
			have = append(have, plain.Replace(strings.TrimSpace(line)))
		}
	}
	for _, v := range config.Variables() {
		want = append(want, plain.Replace(fmt.Sprintf("| %s | %s | %s |", v.Name, v.Default, v.Meaning)))
	}
	if !slices.Equal(have, want) {
		t.Errorf("the README's table of variables is\n%s\nand must be\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}
