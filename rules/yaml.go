package rules

import (
	"bytes"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// fields returns the members of a mapping by name; what is not among the known ones is refused.
func (f *file) fields(node *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	if node.Kind != yaml.MappingNode {
		f.refuse(node.Line, "%s must be a mapping with %s", what, strings.Join(known, ", "))
		return nil
	}
	fields := map[string]*yaml.Node{}
	for i := 0; i < len(node.Content); i += 2 {
		name := resolve(node.Content[i])
		if !slices.Contains(known, name.Value) {
			f.refuse(name.Line, "unknown field %q: %s can have %s", name.Value, what, strings.Join(known, ", "))
		} else if fields[name.Value] != nil {
			f.refuse(name.Line, "the field %q is given twice", name.Value)
		}
		fields[name.Value] = resolve(node.Content[i+1])
	}
	return fields
}

// list returns the texts of a list with the line of each; a field that is not there is an empty list.
func (f *file) list(node *yaml.Node, field string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for entry := range f.entries(node, field) {
			if text := f.text(entry, "an entry of "+field); text != "" && !yield(entry.Line, text) {
				return
			}
		}
	}
}

// entries returns the nodes of a list; a field that is not there is an empty list.
func (f *file) entries(node *yaml.Node, field string) iter.Seq[*yaml.Node] {
	return func(yield func(*yaml.Node) bool) {
		if node == nil {
			return
		}
		if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
			f.refuse(node.Line, "%s must be a list with at least one entry", field)
			return
		}
		for _, entry := range node.Content {
			if !yield(resolve(entry)) {
				return
			}
		}
	}
}

func (f *file) text(node *yaml.Node, field string) string {
	if node.Kind != yaml.ScalarNode {
		f.refuse(node.Line, "%s must be text: put quotes around it if it has special characters", field)
		return ""
	}
	if node.Value == "" || node.Tag == "!!null" {
		f.refuse(node.Line, "%s is empty", field)
		return ""
	}
	return node.Value
}

func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// yamlError takes apart an error of the YAML decoder, which tells the line in words alone, and not always.
var yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(?:unknown anchor '(.+)' referenced|(.*))$`)

// yamlParserError matches the decoder's errors that count lines from zero; those of its scanner count from one.
var yamlParserError = regexp.MustCompile(`^did not find expected (',' or|'-' ind|key|node|<)|^found undefined tag handle`)

// refuseYAML refuses a text that is not YAML, in the line in which the decoder was lost.
func (f *file) refuseYAML(err error, data []byte) {
	line, text := 1, err.Error()
	if m := yamlError.FindStringSubmatch(text); m != nil {
		at := -1
		switch text = m[3]; {
		case m[1] != "":
			line, _ = strconv.Atoi(m[1]) // digits; the decoder counted them
			if yamlParserError.MatchString(text) {
				line++
			}
		case m[2] != "":
			text = fmt.Sprintf("unknown anchor %q: put quotes around a text that begins with *", m[2])
			at = bytes.Index(data, []byte("*"+m[2]))
		default: // a byte that no YAML can have
			at = bytes.IndexFunc(data, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) && !unicode.IsSpace(r) })
		}
		line += bytes.Count(data[:max(at, 0)], []byte("\n"))
	}
	f.refuse(line, "not YAML: %s", text)
}
