package livetest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// ACL is what a file in deploy/redis grants to the user pgevict.
type ACL struct {
	always    []string
	selectors [][]string // each holds apart from the others
}

// ACLPassword is the one that Grant gives the user pgevict.
const ACLPassword = "hunter2"

// ReadACL reads such files.
func ReadACL(tb testing.TB, paths ...string) (r ACL) {
	tb.Helper()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		inside := false
		for line := range strings.Lines(string(text)) {
			rest, ok := strings.CutPrefix(line, "ACL SETUSER pgevict ")
			if !ok {
				continue
			}
			for word := range strings.FieldsSeq(rest) {
				begins, ends := strings.HasPrefix(word, "("), strings.HasSuffix(word, ")")
				word = strings.Trim(word, "()")
				switch {
				case begins:
					r.selectors = append(r.selectors, []string{word})
				case inside:
					last := len(r.selectors) - 1
					r.selectors[last] = append(r.selectors[last], word)
				default:
					r.always = append(r.always, word)
				}
				inside = (begins || inside) && !ends
			}
		}
	}
	return r
}

// Flat are the same for a Redis that knows neither selectors nor rights to read or to write.
func (r ACL) Flat() ACL {
	all := slices.Concat(append([][]string{r.always}, r.selectors...)...)
	for i, word := range all {
		if _, key, ok := strings.Cut(word, "~"); ok {
			all[i] = "~" + key
		}
	}
	return ACL{always: all}
}

// Grant makes the user, or lets it do this and no more.
func (r ACL) Grant(tb testing.TB, servers ...*Redis) {
	tb.Helper()
	args := []any{"ACL", "SETUSER", "pgevict"}
	for _, word := range r.always {
		args = append(args, word)
	}
	for _, s := range r.selectors {
		args = append(args, "("+strings.Join(s, " ")+")")
	}
	args = append(args, "on", ">"+ACLPassword)
	for _, s := range servers {
		admin := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
		err := admin.Do(tb.Context(), args...).Err()
		_ = admin.Close()
		if err != nil {
			tb.Fatal(args, err)
		}
	}
}

// Lesser returns what is left when any one right is taken away, or made narrower.
func (r ACL) Lesser() map[string]ACL {
	all := map[string]ACL{}
	for i, word := range r.always {
		if strings.ContainsAny(word[:1], "+&") {
			all["without "+word] = ACL{slices.Delete(slices.Clone(r.always), i, i+1), r.selectors}
		}
	}
	for i, s := range r.selectors {
		change := func(name string, words []string) {
			selectors := slices.Clone(r.selectors)
			selectors[i] = words
			all[name+" in "+strings.Join(s, " ")] = ACL{r.always, selectors}
		}
		for j, word := range s {
			change("without "+word, slices.Delete(slices.Clone(s), j, j+1))
			if key, ok := strings.CutPrefix(word, "%RW~"); ok {
				for _, narrow := range []string{"%R~", "%W~"} {
					words := slices.Clone(s)
					words[j] = narrow + key
					change(narrow+key, words)
				}
			}
		}
	}
	return all
}

// ACLRules need every right that there is to grant.
const ACLRules = `rules:
  - {name: action, table: actions, keys: ['action:{id}', 'actions:list:*'], tags: ['actions:of:{owner}']}
  - {name: owner, table: owners, fields: [{key: 'owner:{id}', field: '{name}'}]}
  - {name: profile, table: profiles, keys: ['profile:{id}'], refresh: {query: 'SELECT text FROM profiles WHERE id = {id}'}}
`

// FillACLRules puts in all that ACLRules are about.
func FillACLRules(tb testing.TB, admin redis.UniversalClient) {
	tb.Helper()
	for _, key := range []string{"action:1", "action:2", "actions:list:1", "page:1", "page:2", "profile:1", "profile:2", "other"} {
		if err := admin.Set(tb.Context(), key, "old", 0).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	if err := admin.SAdd(tb.Context(), "actions:of:7", "page:1").Err(); err != nil {
		tb.Fatal(err)
	}
	if err := admin.SAdd(tb.Context(), "actions:of:8", "page:2").Err(); err != nil {
		tb.Fatal(err)
	}
	if err := admin.HSet(tb.Context(), "owner:7", "name", 1, "more", 2).Err(); err != nil {
		tb.Fatal(err)
	}
}
