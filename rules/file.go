package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Load reads the rules file at path. The error names every problem that the file has, a line each, with file and line.
func Load(path string) (*Set, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return Parse(path, data)
}

// Parse reads rules from the text of a file; name is what errors call it.
func Parse(name string, data []byte) (*Set, error) {
	f := file{name: name, names: map[string]int{}}
	set := f.read(data)
	if len(f.problems) > 0 {
		slices.SortStableFunc(f.problems, func(a, b problem) int { return a.line - b.line })
		errs := make([]error, len(f.problems))
		for i, p := range f.problems {
			errs[i] = p
		}
		return nil, errors.Join(errs...)
	}
	return set, nil
}

// problem is one thing that is wrong with a rules file.
type problem struct {
	file string
	line int
	text string
}

func (p problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.file, p.line, p.text) }

// file is a rules file while it is read. Problems are gathered, so that all are told at once.
type file struct {
	name     string
	problems []problem
	names    map[string]int // the line of each name that is given
}

func (f *file) refuse(line int, format string, args ...any) {
	f.problems = append(f.problems, problem{f.name, line, fmt.Sprintf(format, args...)})
}

func (f *file) read(data []byte) *Set {
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		f.refuse(1, "the file is empty: it needs a list of rules")
		return nil
	case err != nil:
		f.refuseYAML(err, data)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		f.refuse(second.Line, "a second document: one file holds one list of rules")
	case !errors.Is(err, io.EOF):
		f.refuseYAML(err, data)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		f.refuse(1, "the file is empty: it needs a list of rules")
		return nil
	}
	fields := f.fields(root, "the file", "rules")
	if fields == nil {
		return nil
	}
	list := fields["rules"]
	if list == nil {
		f.refuse(root.Line, "no rules: the file needs a list of them under \"rules\"")
		return nil
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		f.refuse(list.Line, "no rules: \"rules\" must be a list with at least one rule")
		return nil
	}
	var rules []*rule
	for _, node := range list.Content {
		if r := f.rule(resolve(node)); r != nil {
			rules = append(rules, r)
		}
	}
	f.nameRules(rules)
	return newSet(rules)
}

func (f *file) rule(node *yaml.Node) *rule {
	fields := f.fields(node, "a rule", "name", "table", "on", "keys", "changed")
	if fields == nil {
		return nil
	}
	r := &rule{}
	if n := fields["name"]; n != nil {
		r.name = f.text(n, "name")
		if line, taken := f.names[r.name]; taken && r.name != "" {
			f.refuse(n.Line, "the name %q is taken by the rule in line %d", r.name, line)
		}
		f.names[r.name] = n.Line
	}
	if n := fields["table"]; n == nil {
		f.refuse(node.Line, "the rule has no table")
	} else if text := f.text(n, "table"); text != "" {
		var err error
		if r.schema, r.table, err = tableName(text); err != nil {
			f.refuse(n.Line, "table %s: %v", text, err)
		}
	}
	for line, op := range f.list(fields["on"], "on") {
		if !slices.Contains([]string{Insert, Update, Delete, Truncate}, op) {
			f.refuse(line, "on: unknown operation %q: it can be insert, update, delete or truncate", op)
		}
		r.on = append(r.on, op)
	}
	for _, column := range f.list(fields["changed"], "changed") {
		r.changed = append(r.changed, column)
	}
	if fields["keys"] == nil {
		f.refuse(node.Line, "the rule has no keys")
	}
	for line, text := range f.list(fields["keys"], "keys") {
		t, err := compile(text)
		if err != nil {
			f.refuse(line, "key template %q: %v", text, err)
			continue
		}
		r.templates = append(r.templates, t)
	}
	return r
}

// nameRules gives each rule without a name that of its table, numbered from the second on.
func (f *file) nameRules(rules []*rule) {
	for _, r := range rules {
		if r.name == "" {
			r.name = r.table
			for i := 2; f.names[r.name] != 0; i++ {
				r.name = fmt.Sprintf("%s-%d", r.table, i)
			}
			f.names[r.name] = -1
		}
		for _, t := range r.templates {
			t.rule = r.name
		}
	}
}

func newSet(rules []*rule) *Set {
	s := &Set{rules: rules, tables: map[string][]*rule{}}
	for _, r := range rules {
		s.tables[r.table] = append(s.tables[r.table], r)
	}
	return s
}

// fields gives the members of a mapping by name; what is not among the known ones is refused.
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

// list gives the texts of a list with the line of each; a field that is not there is an empty list.
func (f *file) list(node *yaml.Node, field string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		if node == nil {
			return
		}
		if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
			f.refuse(node.Line, "%s must be a list with at least one entry", field)
			return
		}
		for _, entry := range node.Content {
			entry = resolve(entry)
			if text := f.text(entry, "an entry of "+field); text != "" && !yield(entry.Line, text) {
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

// tableName reads table or schema.table. A part that holds a dot or a double quote is put in double quotes, as in SQL;
// unlike there, case is never folded.
func tableName(text string) (schema, table string, err error) {
	first, rest, err := identifier(text)
	if err != nil {
		return "", "", err
	}
	if rest == "" {
		return "", first, nil
	}
	table, rest, err = identifier(rest[1:])
	if err != nil {
		return "", "", err
	}
	if rest != "" {
		return "", "", errors.New("a table is written table or schema.table; put a name that holds a dot in double quotes")
	}
	return first, table, nil
}

// identifier reads a name up to the end or to a dot, which it leaves.
func identifier(s string) (name, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		name, rest, err = quotedIdentifier(s)
		if err == nil && rest != "" && rest[0] != '.' {
			err = fmt.Errorf("unexpected text %q after a closing double quote", rest)
		}
	} else {
		if i := strings.IndexByte(s, '.'); i >= 0 {
			name, rest = s[:i], s[i:]
		} else {
			name = s
		}
		if strings.Contains(name, `"`) {
			err = errors.New("a double quote within a name: put the name in double quotes and double those in it")
		}
	}
	switch {
	case err != nil:
	case strings.TrimSpace(name) == "":
		err = errors.New("a name is empty")
	case strings.TrimSpace(name) != name && s[0] != '"':
		err = fmt.Errorf("spaces around the name %q: put the name in double quotes if they belong to it", name)
	}
	return name, rest, err
}

// quotedIdentifier reads an SQL identifier in double quotes, in which a double quote is doubled.
func quotedIdentifier(s string) (name, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", errors.New("the closing double quote is missing")
}
