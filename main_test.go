package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgevict/internal/sidecar"
)

// asWritten is a command with its synopsis, as help and README write it.
func asWritten(c sidecar.Command) string {
	return strings.TrimSpace("pgevict " + c.Name + " " + c.Synopsis)
}

// TestReadmeHasTheCommands holds the README's table against the commands.
func TestReadmeHasTheCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| command | what it does |\n")
	if !found {
		t.Fatal("there is no table of commands")
	}
	var have, want []string
	code := regexp.MustCompile("`([^`]*)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) < 3 {
			break
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			if m[1] != "pgevict" { // which is serve
				have = append(have, strings.ReplaceAll(m[1], "\x00", "|"))
			}
		}
	}
	for _, c := range commands() {
		want = append(want, asWritten(c))
	}
	if !slices.Equal(have, want) {
		t.Errorf("the README's table has\n%s\nand must have\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

func TestHelpHasTheCommands(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := sidecar.Help(&text, commands()); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(text.String()), " ")
	for _, c := range commands() {
		if !strings.Contains(text.String(), "\npgevict "+c.Name+"  ") || !strings.Contains(words, strings.TrimSpace(c.Summary+" "+c.Synopsis)) {
			t.Errorf("help does not say all of %s", asWritten(c))
		}
	}
}
