package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// load also checks that no message holds any of secrets.
func load(t *testing.T, environ []string, required []string, secrets ...string) (Config, []string) {
	t.Helper()
	c, err := Load(environ, required...)
	if err == nil {
		return c, nil
	}
	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("shows %q: %v", secret, err)
		}
	}
	return c, strings.Split(err.Error(), "\n")
}

func wantProblems(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("problems: got %d, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d: got %q, want %q…", i, got[i], want[i])
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	want := Config{
		Rules:          "rules.yaml",
		TCNChannels:    []string{"tcn"},
		EventsChannels: []string{"events"},
		HTTPAddr:       ":9377",
		Heartbeat:      2 * time.Second,
		AgainAfter:     time.Second,
		Gap:            GapSweep,
		MaxPending:     200000, TriggersMaxRows: 10000,
		RefreshConns: 2, RefreshTimeout: 2 * time.Second,
		Grace:     10 * time.Second,
		LogLevel:  zapcore.InfoLevel,
		LogFormat: LogJSON,
	}
	var empty []string
	for _, v := range Variables() {
		empty = append(empty, v.Name+"=", prefix+"BOGUS= ")
	}
	for name, environ := range map[string][]string{"unset": nil, "empty": empty, "elsewhere": {"HEARTBEAT=1h", "RULES=x"}} {
		got, problems := load(t, environ, nil)
		if wantProblems(t, problems); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

// The environment of the process counts for nothing: not parallel, because it is changed here.
func TestConfigIsPure(t *testing.T) {
	t.Setenv("PGEVICT_HEARTBEAT", "7s")
	t.Setenv("PGEVICT_RULES", "")
	t.Setenv("REDIS_URL", "nonsense")
	t.Setenv("_VALUE", "nonsense")
	t.Setenv("VALUE", "nonsense")
	c, problems := load(t, []string{"PGEVICT_GRACE=3s"}, nil)
	wantProblems(t, problems)
	if c.Heartbeat != 2*time.Second || c.Grace != 3*time.Second || c.Rules != "rules.yaml" || c.RedisURL.Given() {
		t.Errorf("got %+v", c)
	}
}

func TestConfigValues(t *testing.T) {
	t.Parallel()
	c, problems := load(t, []string{
		"DATABASE_URL=postgres://u:p@h/d", "REDIS_URL= redis://h ", "PGEVICT_RULES=/etc/r=1.yaml", "PGEVICT_TCN_CHANNELS=a, b",
		"PGEVICT_EVENTS_CHANNELS=password_changes", "PGEVICT_HTTP_ADDR=Off", "PGEVICT_HEARTBEAT= 100ms", "PGEVICT_AGAIN_AFTER=0",
		"PGEVICT_GAP=ignore", "PGEVICT_MAX_PENDING=1", "PGEVICT_TRIGGERS_MAX_ROWS=5", "PGEVICT_REFRESH_CONNS=100", "PGEVICT_REFRESH_TIMEOUT=1ms",
		"PGEVICT_GRACE=0s", "PGEVICT_LOG_LEVEL=debug",
		"PGEVICT_LOG_FORMAT=console", "PGEVICT_DRY_RUN=true",
	}, []string{DatabaseURL, RedisURL})
	wantProblems(t, problems)
	c.DatabaseURL, c.RedisURL = Secret{}, Secret{}
	want := Config{
		Rules: "/etc/r=1.yaml", TCNChannels: []string{"a", "b"}, EventsChannels: []string{"password_changes"}, HTTPAddr: HTTPOff,
		Heartbeat: 100 * time.Millisecond, Gap: GapIgnore, MaxPending: 1, TriggersMaxRows: 5,
		RefreshConns: 100, RefreshTimeout: time.Millisecond, LogLevel: zapcore.DebugLevel,
		LogFormat: LogConsole, DryRun: true,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("\n got %+v\nwant %+v", c, want)
	}
}

func TestConfigEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, problems := load(t, []string{
		"REDIS_URL=http://h", "PGEVICT_HEARTBEAT=1ms", "PGEVICT_MAX_PENDING=many", "PGEVICT_TCN_CHANNELS=a,a", "PGEVICT_HEARTBEET=1s",
	}, []string{DatabaseURL, RedisURL})
	wantProblems(t, problems, "DATABASE_URL: required", "PGEVICT_MAX_PENDING: not a whole number", "REDIS_URL: not a usable", "PGEVICT_HEARTBEAT: must be",
		"PGEVICT_TCN_CHANNELS: a name is twice", "PGEVICT_HEARTBEET: no such variable")
	_, problems = load(t, []string{
		"PGEVICT_HEARTBEAT=x", "PGEVICT_GAP=x", "PGEVICT_GRACE=-1s", "PGEVICT_X=1",
	}, []string{DatabaseURL, RedisURL})
	wantProblems(t, problems, "DATABASE_URL: required (or PGEVICT_DATABASE_URL, or a file: DATABASE_URL_FILE)",
		"REDIS_URL: required", "PGEVICT_HEARTBEAT: not a duration such as 2s or 500ms", "PGEVICT_GAP: not sweep or ignore",
		"PGEVICT_GRACE: must not be negative", "PGEVICT_X: no such variable")
}

func TestConfigRanges(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"PGEVICT_HEARTBEAT=99ms":                                  "PGEVICT_HEARTBEAT: must be at least 100ms",
		"PGEVICT_HEARTBEAT=2":                                     "PGEVICT_HEARTBEAT: not a duration such as 2s or 500ms",
		"PGEVICT_AGAIN_AFTER=-1s":                                 "PGEVICT_AGAIN_AFTER: must not be negative",
		"PGEVICT_MAX_PENDING=0":                                   "PGEVICT_MAX_PENDING: must be at least 1",
		"PGEVICT_MAX_PENDING=99999999999999999999":                "PGEVICT_MAX_PENDING: not a whole number",
		"PGEVICT_REFRESH_CONNS=0":                                 "PGEVICT_REFRESH_CONNS: must be at least 1 and at most 100",
		"PGEVICT_REFRESH_CONNS=101":                               "PGEVICT_REFRESH_CONNS: must be at least 1 and at most 100",
		"PGEVICT_REFRESH_TIMEOUT=999us":                           "PGEVICT_REFRESH_TIMEOUT: must be at least 1ms",
		"PGEVICT_GAP=sweeep":                                      "PGEVICT_GAP: not sweep or ignore",
		"PGEVICT_LOG_FORMAT=xml":                                  "PGEVICT_LOG_FORMAT: not json or console",
		"PGEVICT_LOG_LEVEL=loud":                                  "PGEVICT_LOG_LEVEL: not a level",
		"PGEVICT_DRY_RUN=maybe":                                   "PGEVICT_DRY_RUN: not true or false",
		"PGEVICT_HTTP_ADDR=9377":                                  "PGEVICT_HTTP_ADDR: neither host:port",
		"PGEVICT_HTTP_ADDR=:70000":                                "PGEVICT_HTTP_ADDR: neither host:port",
		"PGEVICT_TCN_CHANNELS=a,,b":                               "PGEVICT_TCN_CHANNELS: a name in the list is empty",
		"PGEVICT_TCN_CHANNELS=,":                                  "PGEVICT_TCN_CHANNELS: a name in the list is empty",
		"PGEVICT_TCN_CHANNELS=a, a":                               "PGEVICT_TCN_CHANNELS: a name is twice",
		"PGEVICT_TCN_CHANNELS=events":                             "PGEVICT_TCN_CHANNELS, PGEVICT_EVENTS_CHANNELS: a name is in both",
		"PGEVICT_EVENTS_CHANNELS=x,tcn":                           "PGEVICT_TCN_CHANNELS, PGEVICT_EVENTS_CHANNELS: a name is in both",
		"PGEVICT_EVENTS_CHANNELS=" + strings.Repeat("x", 64):      "PGEVICT_EVENTS_CHANNELS: a name in the list is longer than 63 bytes",
		"PGEVICT_EVENTS_CHANNELS=" + strings.Repeat("\u00e9", 32): "PGEVICT_EVENTS_CHANNELS: a name in the list is longer than 63 bytes",
	} {
		_, problems := load(t, []string{variable}, nil)
		wantProblems(t, problems, want)
	}
	for _, variable := range []string{"PGEVICT_HTTP_ADDR=[::1]:80", "PGEVICT_HTTP_ADDR=h:0", "PGEVICT_TCN_CHANNELS=" + strings.Repeat("x", 63)} {
		_, problems := load(t, []string{variable}, nil)
		wantProblems(t, problems)
	}
}

// Each password breaks the URL in a way of its own; the pieces are what a parser might show.
func TestConfigNoMessageShowsAPassword(t *testing.T) {
	t.Parallel()
	for password, pieces := range map[string][]string{
		"pqr%zzrst":               {"pqr", "%zz", "rst"},
		"pqr/ss#wx":               {"pqr", "ss#", "wx"},
		"pqr rst":                 {"pqr", "rst"},
		"pqr@rst:z":               {"pqr", "rst"},
		"4711/rst":                {"4711", "rst"},
		"4711?rst":                {"4711", "rst"},
		"4711#rst":                {"4711", "rst"},
		"4711?r=st":               {"4711", "r=st"},
		"pqr@4711":                {"pqr", "4711"},
		"pqr@rs/tu":               {"pqr", "rs/tu"},
		":p@rst":                  {":p", "rst"},
		"[pqr":                    {"pqr"},
		"pqr;rst":                 {"pqr", "rst"},
		"pqr\x7fst":               {"pqr"},
		"4711?client_name=rst":    {"4711", "rst"},
		"4711?addr=pqr":           {"4711", "pqr"},
		"4711?addr=//pqr&cert=qx": {"4711", "pqr", "qx"},
		"4711?cacert=/pqr&db=1&":  {"4711", "pqr"},
		"47/pq?cert=/qx&key=/wx":  {"47/pq", "qx", "wx"},
	} {
		for _, text := range []string{
			"postgres://user:%s@host:5432/db", "postgres://user:%s@host/db?sslmode=disable", "postgresql://:%s@host",
			"postgres://host/db?password=%s", "postgres://host/db?%s", "postgres:/user:%s@host/db?sslmode=disable",
			"postgresq://user:%s@host/db?sslmode=disable", "host=host password=%s port=x", "password=%s host=host port=x",
			"host=host password='%s", "host=host password=x sslmode=%s", "host=host target_session_attrs=%s", "host=host connect_timeout=%s",
			"redis://user:%s@host:6379/0", "rediss://:%s@host", "redis://%s", "redis://host/%s", "redis://host?%s=1",
			"redis://host?pool_size=%s", "redis://host?addr=%s", "redis://host?master_name=%s",
			"redis://host?sentinel_password=%s", "rediss://user:%s@host/0?cacert=/nowhere", "unix://user:%s@/tmp/r.sock", "unix:///tmp/r.sock?db=%s", "redis:/user:%s@host", "%s",
		} {
			url := fmt.Sprintf(text, password)
			file := writeFile(t, url)
			for _, name := range []string{DatabaseURL, RedisURL} {
				for _, variable := range []string{name + "=" + url, "PGEVICT_" + name + "=" + url, name + "_FILE=" + file} {
					c, problems := load(t, []string{variable}, nil, pieces...)
					name, _, _ := strings.Cut(variable, "=")
					if len(problems) > 0 {
						wantProblems(t, problems, name+": ")
						continue
					}
					// What is taken for a good URL must not have put pieces of the password elsewhere. This holds for
					// those with the password in its place.
					if !strings.Contains(text, ":%s@") {
						continue
					}
					if cfg, err := c.PostgresConfig(); err == nil && (cfg.Host != "host" || strings.Contains(cfg.Database, "s")) {
						t.Errorf("%s: host %q, database %q", url, cfg.Host, cfg.Database)
					}
					if options, err := c.RedisOptions(); err == nil && options.Addrs[0] != "host:6379" && options.Addrs[0] != "/tmp/r.sock" {
						t.Errorf("%s: addresses %q", url, options.Addrs)
					}
				}
			}
		}
	}
}

func TestConfigPostgres(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		app       string
		validates bool
	}{
		"postgres://u@h1:1,h2:2/d":                                 {"pgevict", true},
		"host=h1,h2 password='it\\'s'":                             {"pgevict", true},
		"postgres://h/d?target_session_attrs=any":                  {"pgevict", false},
		"host=h target_session_attrs=any application_name='a b'":   {"a b", false},
		"postgres://h/d?application_name=x&client_encoding=LATIN1": {"x", true},
		"postgres://u:%40%2F%25@h/d?search_path=a":                 {"pgevict", true},
	} {
		c, problems := load(t, []string{"DATABASE_URL=" + url}, nil)
		wantProblems(t, problems)
		cfg, err := c.PostgresConfig()
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.RuntimeParams["application_name"]; got != want.app {
			t.Errorf("%s: application_name %q", url, got)
		}
		if got := cfg.ValidateConnect != nil; got != want.validates {
			t.Errorf("%s: ValidateConnect %v", url, got)
		}
		if got := cfg.RuntimeParams["client_encoding"]; got != "UTF8" {
			t.Errorf("%s: client_encoding %q", url, got)
		}
	}
	for url, want := range map[string]string{
		"host=h sslmode=require sslrootcert=/nowhere": "DATABASE_URL: a file that it needs (sslrootcert, sslcert or sslkey): no such file",
		"host=h sslmode=perhaps":                      "DATABASE_URL: sslmode is invalid",
		"host=h port=http":                            "DATABASE_URL: not a usable Postgres URL or DSN",
		"host=postgres://u:p@h/d":                     "DATABASE_URL: not a usable Postgres URL or DSN",
		"mysql://u:p@h/d?x=1":                         "DATABASE_URL: not a usable Postgres URL or DSN",
	} {
		_, problems := load(t, []string{"DATABASE_URL=" + url}, nil)
		wantProblems(t, problems, want)
	}
}

func TestConfigLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := Config{LogLevel: zapcore.WarnLevel, LogFormat: LogJSON}.Logger(&out)
	log.Info("unseen")
	log.Warn("seen", zap.Duration("for", 2*time.Second))
	var line struct {
		TS, Level, Msg, For string
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", line.TS); err != nil || line.Level != "warn" || line.Msg != "seen" || line.For != "2s" {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	Config{LogFormat: LogConsole}.Logger(&out).Info("seen")
	if !strings.HasSuffix(out.String(), "Z\tinfo\tseen\n") {
		t.Errorf("console: %q", &out)
	}
}
