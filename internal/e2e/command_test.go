package e2e_test

import (
	"net"
	"strings"
	"testing"
)

// nowhere is an environment that is complete, and leads to no server.
func nowhere(tb testing.TB, rules string) []string {
	return []string{"DATABASE_URL=postgres://u@127.0.0.1:1/d", "REDIS_URL=redis://127.0.0.1:1", rulesFile(tb, rules)}
}

func TestExitStatusOfCommands(t *testing.T) {
	t.Parallel()
	good := nowhere(t, oneRule)
	for name, test := range map[string]struct {
		args    []string
		environ []string
		status  int
		says    string
	}{
		"a command that is none":      {[]string{"serv"}, good, 2, `no such command: "serv"`},
		"an argument too many":        {[]string{"serve", "now"}, good, 2, "takes no arguments"},
		"a flag that is none":         {[]string{"explain", "-nope"}, good, 2, "-nope"},
		"a channel that is none":      {[]string{"explain", "-channel", "x", "{}"}, good, 2, "tcn or events"},
		"check, good":                 {[]string{"check"}, good, 0, ""},
		"check, no URLs":              {[]string{"check"}, good[2:], 2, "DATABASE_URL: required"},
		"serve, no URLs":              {nil, good[2:], 2, "REDIS_URL: required"},
		"tail, no URL":                {[]string{"tail"}, good[2:], 2, "DATABASE_URL: required"},
		"serve, no rules":             {[]string{"serve"}, good[:2], 2, "rules.yaml"},
		"explain needs no URLs":       {[]string{"explain", `"actions",U,"id"='1'`}, good[2:], 0, ""},
		"explain -catalog needs one":  {[]string{"explain", "-catalog", "x"}, good[2:], 2, "DATABASE_URL: required"},
		"explain -catalog, no server": {[]string{"explain", "-catalog", "x"}, good, 1, "connect to Postgres"},
		"explain, unreadable":         {[]string{"explain", "hello"}, good, 1, "cannot be read"},
		"explain -h":                  {[]string{"explain", "-h"}, good, 0, "-channel"},
		"triggers of no kind":         {[]string{"triggers"}, good, 2, "one of print, install, status, uninstall"},
		"triggers status, wrong flag": {[]string{"triggers", "status", "-lock-timeout", "1s"}, good, 2, "-lock-timeout"},
		"triggers, argument too many": {[]string{"triggers", "print", "it"}, good, 2, `"it"`},
		"triggers print needs no URL": {[]string{"triggers", "print"}, good[2:], 0, ""},
		"triggers install needs one":  {[]string{"triggers", "install"}, good[2:], 2, "DATABASE_URL: required"},
		"triggers status, no server":  {[]string{"triggers", "status"}, good, 1, "connect to Postgres"},
		"triggers uninstall, no time": {[]string{"triggers", "uninstall", "-lock-timeout", "0"}, good, 2, "at least 1ms"},
		"doctor, no URLs":             {[]string{"doctor"}, good[2:], 2, "REDIS_URL: required"},
		"doctor, wrong flag":          {[]string{"doctor", "-nope"}, good, 2, "-nope"},
		"doctor, no servers":          {[]string{"doctor"}, good, 1, "redis reachable"},
		"version":                     {[]string{"version"}, nil, 0, ""},
		"help":                        {[]string{"help"}, nil, 0, ""},
		"a variable that is none":     {[]string{"check"}, append([]string{"PGEVICT_HARTBEAT=1s"}, good...), 2, "did you mean PGEVICT_HEARTBEAT?"},
		"a service link":              {[]string{"check"}, append([]string{"PGEVICT_PORT=tcp://10.0.0.1:80"}, good...), 0, ""},
		"an empty variable":           {[]string{"check"}, append([]string{"PGEVICT_HEARTBEAT="}, good...), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := command(t, test.environ, "", test.args...)
			if status != test.status || !strings.Contains(stderr+stdout, test.says) {
				t.Errorf("status %d, want %d; it must say %q: %s%s", status, test.status, test.says, stdout, stderr)
			}
			if test.status == 0 && test.says == "" && (stderr != "" || stdout == "") {
				t.Errorf("standard output %q, standard error %q", stdout, stderr)
			}
		})
	}
}

// TestCheckTellsEveryProblemAtOnce has problems in the configuration and in the rules, and a server that must not be met.
func TestCheckTellsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan struct{})
	go func() {
		if conn, err := server.Accept(); err == nil {
			_ = conn.Close()
			close(met)
		}
	}()
	rules := `
rules:
  - table: actions
    keys: ["{id}"]
  - tabel: actions
    keys: ["action:{id"]
  - {name: x, table: t, on: [upsert], keys: ["t:1"]}
  - {name: x, table: t, keys: []}
`
	urls := []string{"DATABASE_URL=postgres://u:hidden1@" + server.Addr().String() + "/d", "REDIS_URL=redis://:hidden2@" + server.Addr().String()}
	_, stderr, status := command(t, append([]string{
		rulesFile(t, rules), "PGEVICT_HEARTBEAT=hidden3", "PGEVICT_GAP=hidden4", "PGEVICT_MAX_PENDIN=5", "PGEVICT_HTTP_ADDR=hidden5",
	}, urls...), "", "check")
	if status != 2 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		"PGEVICT_HEARTBEAT: not a duration", "PGEVICT_GAP: not sweep or ignore", "PGEVICT_MAX_PENDIN: no such variable; did you mean PGEVICT_MAX_PENDING?",
		"PGEVICT_HTTP_ADDR", "rules.yaml:4:", "rules.yaml:5:", "rules.yaml:6:", "rules.yaml:7:", "rules.yaml:8:",
		"begin with literal text", "tabel", "unbalanced braces", "upsert", `"x" is taken`,
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(stderr, "hidden") {
		t.Error("it shows a value")
	}
	if _, stderr, status := command(t, append(urls, rulesFile(t, oneRule)), "", "check"); status != 0 {
		t.Errorf("good: status %d: %s", status, stderr)
	}
	_ = server.Close()
	select {
	case <-met:
		t.Error("it has connected to a server")
	default:
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	if stdout, _, _ := command(t, nil, "", "version"); !strings.HasPrefix(stdout, "pgevict ") || strings.Count(stdout, "\n") != 1 {
		t.Errorf("version: %q", stdout)
	}
	for _, arg := range []string{"help", "-h", "--help"} {
		stdout, stderr, status := command(t, nil, "", arg)
		if status != 0 || stderr != "" {
			t.Errorf("%s: status %d: %s", arg, status, stderr)
		}
		for _, command := range []string{"serve", "check", "explain", "tail", "version", "help"} {
			if !strings.Contains(stdout, command) {
				t.Errorf("%s does not name the command %s", arg, command)
			}
		}
	}
}
