package status

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pgevict/invalidate"
)

// all are the metrics of a program that runs.
func all(t *testing.T) *Metrics {
	t.Helper()
	m := NewMetrics("v1.2.3")
	m.Watch(func() invalidate.Stats { return invalidate.Stats{} }, time.Now())
	return m
}

func TestMetricsAreNamedAsPrometheusHasIt(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(all(t).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

var (
	described = regexp.MustCompile(`^Desc\{fqName: "(pgevict_\w+)", .*, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constant  = regexp.MustCompile(`(\w+)="[^"]*"`)
	inText    = regexp.MustCompile(`pgevict_[a-z_]+`)
)

// labels lists the labels of each metric of a registry, without those of Go and of the process.
func labels(registry *prometheus.Registry) map[string][]string {
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	found := map[string][]string{}
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			continue
		}
		var names []string
		for _, label := range constant.FindAllStringSubmatch(m[2], -1) {
			names = append(names, label[1])
		}
		names = append(names, strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' })...)
		slices.Sort(names)
		found[m[1]] = names
	}
	return found
}

// TestReadmeHasTheMetrics holds the table of the metrics, and what the alerts use, against the registry.
func TestReadmeHasTheMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := labels(all(t).registry)
	if len(want) < 10 {
		t.Fatalf("only %d metrics are described", len(want))
	}
	_, table, found := strings.Cut(string(text), "\n| metric | meaning |\n")
	if !found {
		t.Fatal("there is no table of metrics")
	}
	have := map[string][]string{}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		for _, m := range regexp.MustCompile("`(pgevict_\\w+)(?:\\{([^}]*)\\})?`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			names := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
			slices.Sort(names)
			have[m[1]] = names
		}
	}
	for name := range want {
		if names, ok := have[name]; !ok || !slices.Equal(names, want[name]) {
			t.Errorf("%s: the table in deploy/README.md has the labels %v, the program %v", name, have[name], want[name])
		}
	}
	for _, name := range inText.FindAllString(string(text), -1) {
		base := name
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			base = strings.TrimSuffix(base, part)
		}
		if _, ok := want[base]; !ok {
			t.Errorf("deploy/README.md names %s, which is no metric", name)
		}
	}
}
