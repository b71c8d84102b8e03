package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigMisspelled(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"PGEVICT_HEARTBEET=1s":           "PGEVICT_HEARTBEET: no such variable; did you mean PGEVICT_HEARTBEAT?",
		"PGEVICT_DATABASE_ULR=x":         "PGEVICT_DATABASE_ULR: no such variable; did you mean PGEVICT_DATABASE_URL?",
		"PGEVICT_REDIS_URLFILE=x":        "PGEVICT_REDIS_URLFILE: no such variable; did you mean PGEVICT_REDIS_URL_FILE?",
		"PGEVICT_HTTP_PORT=8080":         "PGEVICT_HTTP_PORT: no such variable; did you mean PGEVICT_HTTP_ADDR?",
		"PGEVICT_MAX_PENDNG=tcp://1:1":   "PGEVICT_MAX_PENDNG: no such variable; did you mean PGEVICT_MAX_PENDING?",
		"PGEVICT_PORT_80_TCP_HOST=1":     "PGEVICT_PORT_80_TCP_HOST: no such variable",
		"PGEVICT_REFRESH_CONN=4":         "PGEVICT_REFRESH_CONN: no such variable; did you mean PGEVICT_REFRESH_CONNS?",
		"PGEVICT_REFRESH_TIMEOUTS=4s":    "PGEVICT_REFRESH_TIMEOUTS: no such variable; did you mean PGEVICT_REFRESH_TIMEOUT?",
		"PGEVICT_=x":                     "PGEVICT_: no such variable",
		"PGEVICT_RULES_FILE=rules.yaml":  "PGEVICT_RULES_FILE: no such variable; did you mean PGEVICT_RULES?",
		"PGEVICT_heartbeat=1s":           "PGEVICT_heartbeat: no such variable",
		"PGEVICT_METRICS_PORT=hunter2:1": "PGEVICT_METRICS_PORT: no such variable",
	} {
		_, problems := load(t, []string{variable}, nil, "hunter2")
		wantProblems(t, problems, want)
	}
	_, problems := load(t, []string{
		"PGEVICT_PORT=tcp://10.0.0.1:80", "PGEVICT_SERVICE_HOST=10.0.0.1", "PGEVICT_SERVICE_PORT=80", "PGEVICT_SERVICE_PORT_HTTP=80",
		"PGEVICT_PORT_80_TCP=tcp://10.0.0.1:80", "PGEVICT_PORT_80_TCP_PROTO=tcp", "PGEVICT_PORT_80_TCP_PORT=80",
		"PGEVICT_PORT_80_TCP_ADDR=10.0.0.1", "PGEVICT_PORT_53_UDP=udp://10.0.0.1:53", "PGEVICT_PORT_9_SCTP_ADDR=10.0.0.1",
		"PGEVICT_METRICS_SERVICE_HOST=10.0.0.1", "PGEVICT_METRICS_SERVICE_PORT=9377", "PGEVICT_METRICS_SERVICE_PORT_WEB=9377",
		"PGEVICT_METRICS_PORT=tcp://10.0.0.1:9377", "PGEVICT_METRICS_PORT_9377_TCP=tcp://10.0.0.1:9377",
		"PGEVICT_A_B_PORT_9377_TCP_ADDR=10.0.0.1", "PGEVICTX=1", "MY_PGEVICT_X=1", "no equals sign", "=C:=x",
	}, nil)
	wantProblems(t, problems)
}

func TestConfigURLSources(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name, scheme string
		host         func(Config) (string, error)
	}{
		{DatabaseURL, "postgres", func(c Config) (string, error) {
			cfg, err := c.PostgresConfig()
			if err != nil {
				return "", err
			}
			return cfg.Host, nil
		}},
		{RedisURL, "redis", func(c Config) (string, error) {
			options, err := c.RedisOptions()
			if err != nil {
				return "", err
			}
			return strings.TrimSuffix(options.Addrs[0], ":6379"), nil
		}},
	} {
		url := func(host string) string { return v.scheme + "://u:hunter2@" + host }
		file := writeFile(t, url("file")+"\r\n")
		for _, tt := range []struct {
			environ []string
			host    string
		}{
			{[]string{v.name + "=" + url("plain")}, "plain"},
			{[]string{v.name + "_FILE=" + file}, "file"},
			{[]string{"PGEVICT_" + v.name + "_FILE=" + file, v.name + "=" + url("plain")}, "file"},
			{[]string{v.name + "=" + url("plain"), "PGEVICT_" + v.name + "=" + url("own")}, "own"},
			{[]string{v.name + "_FILE=/nowhere", "PGEVICT_" + v.name + "=" + url("own")}, "own"},
			{[]string{v.name + "=" + url("plain"), "PGEVICT_" + v.name + "=", v.name + "_FILE= "}, "plain"},
		} {
			c, problems := load(t, tt.environ, []string{v.name})
			wantProblems(t, problems)
			if got, err := v.host(c); err != nil || got != tt.host {
				t.Errorf("%v: got %q, %v", tt.environ, got, err)
			}
		}

		c, _ := load(t, []string{v.name + "_FILE=" + file}, nil)
		if err := os.WriteFile(file, []byte(url("rotated")), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := v.host(c); err != nil || got != "rotated" {
			t.Errorf("rotated: got %q, %v", got, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, err := v.host(c); err == nil || !strings.Contains(err.Error(), v.name+"_FILE: open "+file) {
			t.Errorf("removed: %v", err)
		}
		if _, err := v.host(Config{}); err == nil || !strings.HasPrefix(err.Error(), v.name+": required") {
			t.Errorf("not given: %v", err)
		}

		empty := writeFile(t, " \n")
		for _, tt := range []struct {
			environ []string
			want    string
		}{
			{[]string{v.name + "=" + url("h"), v.name + "_FILE=/x"}, v.name + ", " + v.name + "_FILE: both are set"},
			{[]string{"PGEVICT_" + v.name + "=" + url("h"), "PGEVICT_" + v.name + "_FILE=/x"}, "PGEVICT_" + v.name + ", PGEVICT_" + v.name + "_FILE: both are set"},
			{[]string{v.name + "_FILE=/nowhere/x"}, v.name + "_FILE: open /nowhere/x: no such file"},
			{[]string{v.name + "_FILE=/"}, v.name + "_FILE: read /: is a directory"},
			{[]string{"PGEVICT_" + v.name + "_FILE=" + empty}, "PGEVICT_" + v.name + "_FILE: " + empty + " is empty"},
			{[]string{v.name + "_FILE=" + url("h")}, v.name + "_FILE: not the path of a file"},
			{[]string{v.name + "_FILE=host=h password=hunter2"}, v.name + "_FILE: not the path of a file"},
		} {
			_, problems := load(t, tt.environ, []string{v.name}, "hunter2")
			wantProblems(t, problems, tt.want)
		}
	}
}

func TestConfigSecretInTheWrongVariable(t *testing.T) {
	t.Parallel()
	for _, v := range Variables() {
		for _, value := range []string{"postgres://u:hunter2@h/d", "redis://:hunter2@h:1", "host=h password=hunter2"} {
			_, problems := load(t, []string{v.Name + "=" + value}, nil, "hunter2")
			if v.Name == DatabaseURL || v.Name == RedisURL {
				continue
			}
			wantProblems(t, problems, v.Name+": ")
		}
	}
}

func TestConfigDoesNotPrintSecrets(t *testing.T) {
	t.Parallel()
	c, problems := load(t, []string{"DATABASE_URL=postgres://u:hunter2@h/d", "REDIS_URL_FILE=" + writeFile(t, "redis://:hunter2@h")}, nil)
	wantProblems(t, problems)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, &c, c.DatabaseURL, c.RedisURL, struct{ inner Config }{c}, struct{ inner *Config }{&c}} {
			fmt.Fprintf(&out, verb, value)
		}
	}
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	log := c.Logger(&out)
	log.Info("config", zap.Any("config", c), zap.Any("pointer", &c), zap.Any("url", c.DatabaseURL), zap.Stringer("url", c.RedisURL))
	log.Sugar().Infow("config", "config", c)
	if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") {
		t.Errorf("shows the password:\n%s", s)
	}
	if c.RedisURL.String() != "REDIS_URL_FILE" {
		t.Errorf("String: %q", c.RedisURL)
	}
}

func TestConfigUsage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Usage(&out); err != nil {
		t.Fatal(err)
	}
	for _, v := range Variables() {
		if v.Name == "" || v.Default == "" || v.Meaning == "" {
			t.Errorf("incomplete: %+v", v)
		}
	}
	var column int
	for i, line := range strings.Split(strings.SplitN(out.String(), "\n\n", 2)[0], "\n") {
		if i == 0 {
			column = strings.Index(line, "MEANING")
		}
		if len(line) <= column || line[column-1] != ' ' || line[column] == ' ' || len(line) > 110 || strings.TrimRight(line, " ") != line {
			t.Errorf("not aligned: %q", line)
		}
	}
	// The whole text of each meaning, whatever its lines.
	words := strings.Join(strings.Fields(out.String()), " ")
	if want := "PGEVICT_HEARTBEAT 2s how often a canary goes through Postgres and Redis PGEVICT_AGAIN_AFTER 1s"; !strings.Contains(words, want) {
		t.Errorf("no %q in\n%s", want, &out)
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
	for _, v := range Variables() {
		want = append(want, plain.Replace(fmt.Sprintf("| %s | %s | %s |", v.Name, v.Default, v.Meaning)))
	}
	if !slices.Equal(have, want) {
		t.Errorf("the README's table of variables is\n%s\nand must be\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}
