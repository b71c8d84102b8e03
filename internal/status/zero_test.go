package status

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgevict/rules"
)

const someRules = `rules:
  - {name: plain, table: actions, keys: ['action:{id}', 'actions:list:*']}
  - {name: read, table: sales.orders, keys: ['order:{id}'], refresh: {query: 'SELECT note FROM orders WHERE id = {id}'}}
  - {name: tagged, table: actions, tags: ['actions:of:{owner}']}
  - {name: hash, table: actions, fields: [{key: 'owner:{owner}', field: '{id}'}]}
`

// TestEverySeriesBeginsAtZero wants what may be counted to be there before it is.
func TestEverySeriesBeginsAtZero(t *testing.T) {
	t.Parallel()
	set, err := rules.Parse("rules.yaml", []byte(someRules))
	if err != nil {
		t.Fatal(err)
	}
	m := all(t)
	m.Begin(set)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			series := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			have[series] = true
			if v := metric.GetCounter().GetValue(); v != 0 && strings.HasPrefix(series, "pgevict_") {
				t.Errorf("%s begins at %v", series, v)
			}
		}
	}
	for _, want := range []string{
		"pgevict_gaps_total{reason=connection}", "pgevict_gaps_total{reason=redis_rollback}",
		"pgevict_redis_errors_total{kind=oom}", "pgevict_unreadable_total{reason=syntax,source=tcn}",
		"pgevict_changes_total{op=truncate,source=events,table=orders}", "pgevict_changes_total{op=unknown,source=tcn,table=actions}",
		"pgevict_targets_total{kind=key,rule=plain}", "pgevict_targets_total{kind=pattern,rule=plain}",
		"pgevict_targets_total{kind=tag,rule=tagged}", "pgevict_targets_total{kind=field,rule=hash}",
		"pgevict_evicted_total{rule=hash}", "pgevict_widened_total{reason=pending,rule=tagged}",
		"pgevict_refreshed_total{rule=read}", "pgevict_refresh_errors_total{rule=read}",
	} {
		if !have[want] {
			t.Errorf("%s is not there", want)
		}
	}
	if have["pgevict_refreshed_total{rule=plain}"] {
		t.Error("a rule that refreshes nothing has a counter for that")
	}
}

// parsed reads the product files of a package.
func parsed(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatal(dir, names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// words collects the texts of expressions that are literal.
type words map[string]bool

func (w words) add(e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, _ := strconv.Unquote(lit.Value)
		w[text] = true
	}
}

// TestNoWordIsForgotten reads in the source which words the counters may be labelled with: who adds one there has to add it
// here.
func TestNoWordIsForgotten(t *testing.T) {
	t.Parallel()
	gaps, kinds, unreadable := words{}, words{}, words{}
	for _, dir := range []string{"pgnotify", "invalidate", "invalidate/redisnode"} {
		for _, file := range parsed(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if strings.HasPrefix(name.Name, "Gap") && i < len(n.Values) {
							gaps.add(n.Values[i])
						}
					}
				case *ast.FuncDecl:
					if n.Name.Name == "ErrorKind" {
						ast.Inspect(n.Body, func(n ast.Node) bool {
							if r, ok := n.(*ast.ReturnStmt); ok {
								kinds.add(r.Results[0])
							}
							return true
						})
					}
				case *ast.CallExpr:
					if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "unreadable" {
						unreadable.add(n.Args[0])
					}
				}
				return true
			})
		}
	}
	for what, lists := range map[string][2][]string{
		"gaps":       {gapReasons(), slices.Sorted(maps.Keys(gaps))},
		"errors":     {errorKinds(), slices.Sorted(maps.Keys(kinds))},
		"unreadable": {unreadableReasons(), slices.Sorted(maps.Keys(unreadable))},
	} {
		if have := slices.Sorted(slices.Values(lists[0])); !slices.Equal(have, lists[1]) {
			t.Errorf("%s: counted from the start are %q, and the source has %q", what, have, lists[1])
		}
	}
}
