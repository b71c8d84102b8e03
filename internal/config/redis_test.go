package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

func TestConfigRedis(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://h":                             "[h:6379] 0 ",
		"redis:///":                             "[localhost:6379] 0 ",
		"redis://u:x@y:z@h:1/2":                 "[h:1] 2 ",
		"rediss://:%2F@[::1]:1?db=3":            "[[::1]:1] 3 ",
		"redis://[fe80::1%25eth0]":              "[[fe80::1%eth0]:6379] 0 ",
		"unix://u:p@/tmp/r.sock?db=1":           "[/tmp/r.sock] 1 ",
		"redis://h?pool_size=3&protocol=2":      "[h:6379] 0 ",
		"redis://h?addr=h2:6380&addr=[::1]":     "[h:6379 h2:6380 [::1]:6379] 0 ",
		"rediss://h:7/0?addr=h2&db=0":           "[h:7 h2:6379] 0 ",
		"redis://h?master_name=my.m_1-x":        "[h:26379] 0 my.m_1-x",
		"redis://h:1/2?master_name=m&addr=h2":   "[h:1 h2:26379] 2 m",
		"redis://h?addr=h2:3&master_name=m":     "[h:26379 h2:3] 0 m",
		"redis://h?master_name=&cacert=&cert=":  "[h:6379] 0 ", // an empty one is none, as go-redis has it
		"redis://?master_name=m&protocol=3":     "[localhost:26379] 0 m",
		"redis://h?master_name=x&master_name=m": "[h:26379] 0 m",
	} {
		c, problems := load(t, []string{"REDIS_URL=" + url}, nil)
		wantProblems(t, problems)
		options, err := c.RedisOptions()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(options.Addrs, " ", options.DB, " ", options.MasterName); got != want || !options.ContextTimeoutEnabled {
			t.Errorf("%s: got %s", url, got)
		}
	}
	const notUsable = "REDIS_URL: not a usable Redis URL"
	for url, want := range map[string]string{
		"h:6379":                                    notUsable,
		"redis:u:p@h":                               notUsable,
		"redis://h:66000":                           notUsable,
		"redis://h1,h2":                             notUsable,
		"redis://::1":                               notUsable,
		"redis://h/-1":                              notUsable,
		"redis://h?polo_size=1":                     notUsable,
		"redis://h?addr=h2&x=1":                     notUsable,
		"redis://h?addr=h2:0":                       notUsable,
		"redis://h?client_name=a@b":                 notUsable,
		"redis://h?addr=":                           "REDIS_URL: an addr= is neither host:port nor host",
		"redis://h?addr=redis://h2":                 "REDIS_URL: an addr= is neither host:port nor host",
		"redis://h?addr=h2,h3":                      notUsable,
		"redis://h?addr=::1":                        notUsable,
		"redis://h?addr=h2/1":                       "REDIS_URL: an addr= is neither host:port nor host",
		"redis://h?addr=u%40h2":                     "REDIS_URL: an addr= is neither host:port nor host",
		"redis://h/1?addr=h2":                       "REDIS_URL: several addr= without a master_name= mean Cluster, which has no database but 0",
		"redis://h?addr=h2&db=1":                    "REDIS_URL: several addr= without a master_name= mean Cluster, which has no database but 0",
		"redis://h?master_name=a+b":                 "REDIS_URL: master_name may hold letters",
		"unix:///s?addr=h":                          "REDIS_URL: a socket (unix://) is one server",
		"unix:///s?master_name=m":                   "REDIS_URL: a socket (unix://) is one server",
		"unix:///s?cacert=/x":                       "REDIS_URL: cacert, cert, key, tls_server_name and skip_verify are for TLS: use rediss://",
		"redis://h?cacert=/x":                       "REDIS_URL: cacert, cert, key, tls_server_name and skip_verify are for TLS: use rediss://",
		"redis://h?tls_server_name=x&master_name=m": "REDIS_URL: cacert, cert, key, tls_server_name and skip_verify are for TLS: use rediss://",
		"redis://h?skip_verify=true":                "REDIS_URL: cacert, cert, key, tls_server_name and skip_verify are for TLS: use rediss://",
		"redis://h?sentinel_password=x":             "REDIS_URL: sentinel_username and sentinel_password are for Sentinel",
		"redis://h?sentinel_username=x":             "REDIS_URL: sentinel_username and sentinel_password are for Sentinel",
		"rediss://h?cert=/x":                        "REDIS_URL: cert and key go together; one is missing",
		"rediss://h?key=/x":                         "REDIS_URL: cert and key go together; one is missing",
		"rediss://h?skip_verify=perhaps":            notUsable,
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			_, problems := load(t, []string{"REDIS_URL=" + url}, nil)
			wantProblems(t, problems, want)
		})
	}
}

// What go-redis understands in a URL reaches the client, in each of the three forms.
func TestConfigRedisKeepsWhatGoRedisReads(t *testing.T) {
	t.Parallel()
	const url = "redis://user@h:1/4?protocol=2&client_name=x&max_retries=3&min_retry_backoff=4s&max_retry_backoff=5s&dial_timeout=6s" +
		"&read_timeout=7s&write_timeout=8s&pool_fifo=true&pool_size=9&pool_timeout=10s&min_idle_conns=11&max_idle_conns=12" +
		"&max_active_conns=13&max_concurrent_dials=14&pipeline_pool_size=15&pipeline_read_buffer_size=16" +
		"&pipeline_write_buffer_size=17&conn_max_idle_time=18s&conn_max_lifetime=20s&conn_max_lifetime_jitter=19s"
	want, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c, problems := load(t, []string{"REDIS_URL=" + url}, nil)
	wantProblems(t, problems)
	options, err := c.RedisOptions()
	if err != nil {
		t.Fatal(err)
	}
	got := options.Simple()
	got.Dialer, got.CredentialsProviderContext, got.ContextTimeoutEnabled = nil, nil, false
	want.Network = "" // a client finds that out by the address
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestConfigRedisCredentials(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "redis://h")
	c, problems := load(t, []string{"REDIS_URL_FILE=" + file}, nil)
	wantProblems(t, problems)
	options, err := c.RedisOptions()
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"redis://h":                       ":",
		"redis://:p%40q@h":                ":p@q",
		"redis://u:p@elsewhere/7":         "u:p",
		"rediss://u:p@h?cacert=/nowhere":  "u:p", // only a configuration needs the rest
		"redis://u:p@h?master_name=m&x=1": "u:p",
	} {
		if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
		user, password, err := options.CredentialsProviderContext(t.Context())
		if got := user + ":" + password; err != nil || got != want {
			t.Errorf("%s: got %q, %v", url, got, err)
		}
	}
	for _, text := range []string{"", "redis://u:hunter2#@h", "redis://u:%hunter2@h"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := options.CredentialsProviderContext(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "REDIS_URL_FILE: ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}

	c, problems = load(t, []string{"REDIS_URL=redis://u:p@h?master_name=m&sentinel_username=su&sentinel_password=s%40p"}, nil)
	wantProblems(t, problems)
	if options, err = c.RedisOptions(); err != nil {
		t.Fatal(err)
	}
	if user, password, err := options.CredentialsProviderContext(t.Context()); err != nil || user != "u" || password != "p" {
		t.Errorf("of the servers: %q, %q, %v", user, password, err)
	}
	if options.SentinelUsername != "su" || options.SentinelPassword != "s@p" {
		t.Errorf("of the sentinels: %q, %q", options.SentinelUsername, options.SentinelPassword)
	}
}

func TestConfigRedisTLS(t *testing.T) {
	t.Parallel()
	ours, others := livetest.NewAuthority(t), livetest.NewAuthority(t)
	issue := func(a *livetest.Authority) (string, string) {
		cert, key, err := a.Issue("client")
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	cert, key := issue(ours)
	_, otherKey := issue(others)
	text := writeFile(t, "hunter2")
	for parameters, want := range map[string]string{
		"":                                  "",
		"cacert=" + ours.File:               "",
		"cert=" + cert + "&key=" + key:      "",
		"tls_server_name=x":                 "",
		"skip_verify=true":                  "",
		"cacert=/nowhere/x":                 "REDIS_URL: cacert: open /nowhere/x: no such file",
		"cacert=/":                          "REDIS_URL: cacert: read /: is a directory",
		"cacert=/hunter2:x":                 "REDIS_URL: cacert: no such file",
		"cacert=password%3Dhunter2":         "REDIS_URL: cacert: no such file",
		"cacert=" + text:                    "REDIS_URL: cacert: no certificate (PEM) in that file",
		"cacert=" + key:                     "REDIS_URL: cacert: no certificate (PEM) in that file",
		"cert=/nowhere&key=" + key:          "REDIS_URL: cert: open /nowhere: no such file",
		"cert=" + cert + "&key=/nowhere":    "REDIS_URL: key: open /nowhere: no such file",
		"cert=" + cert + "&key=" + text:     "REDIS_URL: cert and key: tls: failed to find any PEM data in key input",
		"cert=" + cert + "&key=" + otherKey: "REDIS_URL: cert and key: tls: private key does not match public key",
	} {
		_, problems := load(t, []string{"REDIS_URL=rediss://h?" + parameters}, nil, "hunter2")
		if want == "" {
			wantProblems(t, problems)
		} else {
			wantProblems(t, problems, want)
		}
	}
}
