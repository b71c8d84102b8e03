package rules

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Refresh says how keys of a rule are read anew instead of being deleted.
type Refresh struct {
	Rule       string
	Query      string        // with $1, $2 … for the parameters, without a semicolon; it may end in a comment
	Columns    []string      // the column of which each parameter is the text
	TTL        time.Duration // 0: a key keeps what time to live it has
	OnlyCached bool          // refresh only what is there now
}

// refresh reads how the keys of a rule are read anew, and tells their templates.
func (f *file) refresh(node *yaml.Node, keys []written) *Refresh {
	fields := f.fields(node, "refresh", "query", "ttl", "only_cached")
	if fields == nil {
		return nil
	}
	r := &Refresh{OnlyCached: true}
	if n := fields["query"]; n == nil {
		f.refuse(node.Line, "refresh has no query")
	} else if text := f.text(n, "query"); text != "" {
		f.query(r, n.Line, text, keys)
	}
	if n := fields["ttl"]; n != nil {
		if text := f.text(n, "ttl"); text != "" {
			var err error
			if r.TTL, err = time.ParseDuration(text); err != nil || r.TTL < time.Millisecond { // Redis counts milliseconds
				f.refuse(n.Line, "ttl: %q is no duration from 1ms up, such as 90s, 10m or 24h", text)
			}
		}
	}
	if n := fields["only_cached"]; n != nil {
		if text := f.text(n, "only_cached"); text != "" && n.Decode(&r.OnlyCached) != nil {
			f.refuse(n.Line, "only_cached: %q is neither true nor false", text)
		}
	}
	for _, k := range keys {
		if k.pattern {
			f.refuse(k.line, "key template %q: a refresh needs exact keys: put a template with a * into a rule without one", k.text)
		}
		k.refresh = r
	}
	return r
}

func (f *file) query(r *Refresh, line int, text string, keys []written) {
	known := func(column string) bool {
		return slices.ContainsFunc(keys, func(k written) bool { return slices.Contains(k.columns, column) })
	}
	var err error
	if r.Query, r.Columns, err = compileQuery(text, known); err != nil {
		f.refuse(line, "query: %v", err)
		return
	}
	for _, column := range r.Columns {
		for _, k := range keys {
			if !slices.Contains(k.columns, column) {
				f.refuse(line, "query: the key template %q does not have the column %q: two rows with the same key would be read in different ways", k.text, column)
			}
		}
	}
}

// encode writes the texts of columns one after the other, each behind its length, so that no two lists look the same. What
// it writes is never empty: that tells a key to be read by a query without parameters from one to be deleted.
func encode(columns []string, image Image) string {
	b := []byte{'$'}
	for _, c := range columns {
		text, _, _ := image.Column(c) // the key has the column too, so it is known
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, ':')
		b = append(b, text...)
	}
	return string(b)
}

// decode returns the texts of what encode wrote.
func decode(encoded string) []string {
	var texts []string
	for rest := encoded[1:]; rest != ""; {
		length, after, _ := strings.Cut(rest, ":")
		n, _ := strconv.Atoi(length)
		texts = append(texts, after[:n])
		rest = after[n:]
	}
	return texts
}
