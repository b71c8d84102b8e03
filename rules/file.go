package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

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
	fields := f.fields(node, "a rule", "name", "table", "on", "changed", "keys", "tags", "fields", "refresh")
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
	if fields["keys"] == nil && fields["tags"] == nil && fields["fields"] == nil {
		f.refuse(node.Line, "the rule has no keys, tags or fields")
	}
	keys := f.templates(fields["keys"], "keys", "key", Key)
	for _, k := range keys {
		r.templates = append(r.templates, k.template)
	}
	for _, tag := range f.templates(fields["tags"], "tags", "tag", Tag) {
		r.templates = append(r.templates, tag.template)
	}
	for entry := range f.entries(fields["fields"], "fields") {
		if t := f.hashField(entry); t != nil {
			r.templates = append(r.templates, t)
		}
	}
	if n := fields["refresh"]; n != nil {
		if fields["keys"] == nil {
			f.refuse(n.Line, "refresh reads the rule's keys anew, and the rule has no keys")
		}
		r.refresh = f.refresh(n, keys)
	}
	return r
}

// written is a template as it stands in the file.
type written struct {
	line int
	text string
	*template
}

func (f *file) templates(node *yaml.Node, field, what string, kind Kind) []written {
	var templates []written
	for line, text := range f.list(node, field) {
		parts, err := readKey(text)
		if err != nil {
			f.refuse(line, "%s template %q: %v", what, text, err)
			continue
		}
		templates = append(templates, written{line, text, newTemplate(kind, parts, nil)})
	}
	return templates
}

// hashField reads an entry of fields: a hash, and one field of it.
func (f *file) hashField(node *yaml.Node) *template {
	fields := f.fields(node, "an entry of fields", "key", "field")
	if fields == nil {
		return nil
	}
	read := func(name string, read func(string) ([]part, error), noWildcards string) []part {
		n := fields[name]
		if n == nil {
			f.refuse(node.Line, "the entry of fields has no %s", name)
			return nil
		}
		text := f.text(n, name)
		if text == "" {
			return nil
		}
		parts, err := read(text)
		if err == nil && slices.Contains(parts, part{kind: wildcard}) {
			err = errors.New(noWildcards + ` (an asterisk is written \*)`)
		}
		if err != nil {
			f.refuse(n.Line, "%s template %q: %v", name, text, err)
			return nil
		}
		return parts
	}
	key := read("key", readKey, "the hash of a field has no wildcards: to delete whole hashes put their keys into keys")
	field := read("field", readParts, "a field has no wildcards: to delete the whole hash put its key into keys")
	if key == nil || field == nil {
		return nil
	}
	return newTemplate(Key, key, field)
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
		if r.refresh != nil {
			r.refresh.Rule = r.name
		}
	}
}

func newSet(rules []*rule) *Set {
	s := &Set{rules: rules, tables: map[string][]*rule{}}
	for _, r := range rules {
		s.tables[r.table] = append(s.tables[r.table], r)
	}
	for _, o := range s.Overlaps() {
		o.Other.from.mayBeTag = true
	}
	return s
}
