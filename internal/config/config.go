// Package config reads the environment: every variable, what it means, and what is wrong with it. It is the only way to
// configure pgevict, and knows nothing of what is done with it.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The two URLs, as Load takes them for those that a command cannot do without.
const (
	DatabaseURL = "DATABASE_URL"
	RedisURL    = "REDIS_URL"
)

// HTTPOff is the HTTPAddr that means: no HTTP at all.
const HTTPOff = "off"

// Config is everything that the environment says. The tags are the whole list of variables: Load, Usage and the
// search for misspelled names read them.
type Config struct {
	DatabaseURL     Secret        `envconfig:"DATABASE_URL" desc:"Postgres URL or DSN; several hosts allowed; connects to the primary (target_session_attrs=read-write unless given)"`
	RedisURL        Secret        `envconfig:"REDIS_URL" desc:"redis://, rediss:// or unix:// URL; several addr= or a server that says cluster_enabled:1 means Cluster; master_name= means Sentinel"`
	Rules           string        `envconfig:"PGEVICT_RULES" default:"rules.yaml" desc:"the rules file"`
	TCNChannels     []string      `envconfig:"PGEVICT_TCN_CHANNELS" default:"tcn" desc:"channels that carry tcn payloads, separated by commas"`
	EventsChannels  []string      `envconfig:"PGEVICT_EVENTS_CHANNELS" default:"events" desc:"channels that carry JSON payloads, separated by commas"`
	HTTPAddr        string        `envconfig:"PGEVICT_HTTP_ADDR" default:":9377" desc:"probes and metrics; off: none"`
	Heartbeat       time.Duration `envconfig:"PGEVICT_HEARTBEAT" default:"2s" desc:"how often a canary goes through Postgres and Redis"`
	AgainAfter      time.Duration `envconfig:"PGEVICT_AGAIN_AFTER" default:"1s" desc:"each key is deleted once more after this long, against a reader that read before the commit and fills after the delete; 0: never"`
	Gap             Gap           `envconfig:"PGEVICT_GAP" default:"sweep" desc:"what a gap does: sweep, or ignore for caches that may be stale"`
	MaxPending      int           `envconfig:"PGEVICT_MAX_PENDING" default:"200000" desc:"targets that may wait; beyond it they widen to patterns. Targets that wait for their second delete are counted apart, with the same bound"`
	Grace           time.Duration `envconfig:"PGEVICT_GRACE" default:"10s" desc:"how long a stop may take to apply what waits (second deletes are not waited for: the sweep of the next start covers them); work left at its end: exit status 1"`
	TriggersMaxRows int           `envconfig:"PGEVICT_TRIGGERS_MAX_ROWS" default:"10000" desc:"rows of one statement that the triggers of pgevict triggers send; more of them count as any row of the table"`
	RefreshConns    int           `envconfig:"PGEVICT_REFRESH_CONNS" default:"2" desc:"connections to Postgres that refreshes read on"`
	RefreshTimeout  time.Duration `envconfig:"PGEVICT_REFRESH_TIMEOUT" default:"2s" desc:"how long a refresh's query may take; the key is deleted then"`
	LogLevel        zapcore.Level `envconfig:"PGEVICT_LOG_LEVEL" default:"info" desc:"debug (also each change, and the keys that it made stale), info, warn or error (zap's levels)"`
	LogFormat       LogFormat     `envconfig:"PGEVICT_LOG_FORMAT" default:"json" desc:"json or console"`
	DryRun          bool          `envconfig:"PGEVICT_DRY_RUN" default:"false" desc:"log what would be deleted, delete nothing"`
}

// Gap is what a gap does: GapSweep or GapIgnore.
type Gap string

// A sweep deletes every key that the rules could have produced; to ignore a gap is for caches that may be stale.
const (
	GapSweep  Gap = "sweep"
	GapIgnore Gap = "ignore"
)

// UnmarshalText reads it.
func (g *Gap) UnmarshalText(text []byte) error { return oneOf(g, Gap(text), GapSweep, GapIgnore) }

// LogFormat is LogJSON or LogConsole.
type LogFormat string

// The formats of the log: an object a line, or text for people.
const (
	LogJSON    LogFormat = "json"
	LogConsole LogFormat = "console"
)

// UnmarshalText reads it.
func (f *LogFormat) UnmarshalText(text []byte) error {
	return oneOf(f, LogFormat(text), LogJSON, LogConsole)
}

func oneOf[T comparable](to *T, value T, allowed ...T) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("not one of %v", allowed)
	}
	*to = value
	return nil
}

// Load reads the configuration from environ, which has the form of os.Environ. required names the URLs that must
// be there, DatabaseURL or RedisURL; whichever is given is looked at all the same. The error holds every problem, one a
// line, and no value of any variable; what has no problem is in the Config all the same. (One thing comes from
// elsewhere: what a Postgres URL leaves open, pgx fills in from PG… variables and files of the process, as libpq does.)
func Load(environ []string, required ...string) (Config, error) {
	var (
		c        Config
		problems []error
		env      = newEnv(environ)
		value    = reflect.ValueOf(&c).Elem()
	)
	for i := range value.NumField() {
		field, tag := value.Field(i), value.Type().Field(i).Tag
		name := tag.Get("envconfig")
		if secret, ok := field.Addr().Interface().(*Secret); ok {
			var err error
			if *secret, err = env.secret(name); err == nil && !secret.Given() && slices.Contains(required, name) {
				err = missing(name)
			}
			problems = append(problems, err)
			continue
		}
		text, given := env[name]
		if given && decode(field, text) == nil {
			continue
		}
		if given { // what cannot be read keeps its default, so that it is reported once
			problems = append(problems, fmt.Errorf("%s: not %s", name, expected(field.Interface())))
		}
		if err := decode(field, tag.Get("default")); err != nil {
			return Config{}, fmt.Errorf("default of %s: %w", name, err)
		}
	}
	if c.DatabaseURL.Given() {
		_, err := c.PostgresConfig()
		problems = append(problems, err)
	}
	if c.RedisURL.Given() {
		_, err := c.RedisOptions()
		problems = append(problems, err)
	}
	problems = append(problems, c.checkRanges()...)
	problems = append(problems, c.checkChannels()...)
	problems = append(problems, env.misspelled()...)
	return c, errors.Join(problems...)
}

// checkRanges also makes OFF and Off the HTTPOff that callers compare with.
func (c *Config) checkRanges() []error {
	var problems []error
	check := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, errors.New(problem))
		}
	}
	if strings.EqualFold(c.HTTPAddr, HTTPOff) {
		c.HTTPAddr = HTTPOff
	}
	// Whoever puts a URL into the wrong variable is told here, before some other message shows it.
	check(!IsURL(c.Rules), "PGEVICT_RULES: not the path of a file")
	check(c.HTTPAddr == HTTPOff || isHostPort(c.HTTPAddr), "PGEVICT_HTTP_ADDR: neither host:port, such as :9377, nor off")
	check(c.Heartbeat >= 100*time.Millisecond, "PGEVICT_HEARTBEAT: must be at least 100ms")
	check(c.AgainAfter >= 0, "PGEVICT_AGAIN_AFTER: must not be negative (0: never)")
	check(c.MaxPending >= 1, "PGEVICT_MAX_PENDING: must be at least 1")
	check(c.TriggersMaxRows >= 1, "PGEVICT_TRIGGERS_MAX_ROWS: must be at least 1")
	check(c.RefreshConns >= 1 && c.RefreshConns <= 100, "PGEVICT_REFRESH_CONNS: must be at least 1 and at most 100")
	check(c.RefreshTimeout >= time.Millisecond, "PGEVICT_REFRESH_TIMEOUT: must be at least 1ms")
	check(c.Grace >= 0, "PGEVICT_GRACE: must not be negative")
	return problems
}

func isHostPort(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.ContainsAny(host, "/@ ") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// checkChannels also trims the names. Postgres cuts longer names off when it listens and refuses them when it notifies.
func (c *Config) checkChannels() []error {
	const maxName = 63
	var problems []error
	check := func(name string, channels []string) {
		for i, channel := range channels {
			channels[i] = strings.TrimSpace(channel)
		}
		switch {
		case slices.Contains(channels, ""):
			problems = append(problems, fmt.Errorf("%s: a name in the list is empty", name))
		case slices.ContainsFunc(channels, func(s string) bool { return len(s) > maxName }):
			problems = append(problems, fmt.Errorf("%s: a name in the list is longer than %d bytes", name, maxName))
		case slices.ContainsFunc(channels, IsURL):
			problems = append(problems, fmt.Errorf("%s: not a list of channel names", name))
		case len(slices.Compact(slices.Sorted(slices.Values(channels)))) < len(channels):
			problems = append(problems, fmt.Errorf("%s: a name is twice in the list", name))
		}
	}
	check("PGEVICT_TCN_CHANNELS", c.TCNChannels)
	check("PGEVICT_EVENTS_CHANNELS", c.EventsChannels)
	both := func(channel string) bool { return channel != "" && slices.Contains(c.EventsChannels, channel) }
	if slices.ContainsFunc(c.TCNChannels, both) {
		problems = append(problems, errors.New("PGEVICT_TCN_CHANNELS, PGEVICT_EVENTS_CHANNELS: a name is in both lists "+
			"(tcn and events by default), and one channel cannot carry both formats"))
	}
	return problems
}

// PostgresConfig reads and parses the URL afresh on every call, password files included: call it for each attempt to
// connect, and rotated credentials work. No error shows any of the URL: what pgx says about a URL that it cannot parse
// may hold a piece of the password.
func (c Config) PostgresConfig() (*pgconn.Config, error) {
	text, err := c.DatabaseURL.value(DatabaseURL)
	if err != nil {
		return nil, err
	}
	name := c.DatabaseURL.name
	cfg, err := pgconn.ParseConfig(text)
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return nil, fmt.Errorf("%s: a file that it needs (sslrootcert, sslcert or sslkey): %w", name, pathErr.Err)
	}
	if detail := errors.Unwrap(err); detail != nil && slices.Contains([]string{ // these hold nothing of the URL
		"sslmode is invalid", `both "sslcert" and "sslkey" are required`,
		"unable to add CA to cert pool", "failed to decode sslkey",
	}, detail.Error()) {
		return nil, fmt.Errorf("%s: %w", name, detail)
	}
	if err != nil || ambiguous(text, cfg) {
		return nil, fmt.Errorf("%s: not a usable Postgres URL or DSN; in a URL, percent-encode the special characters of "+
			"the password (@ is %%40, / is %%2F, %% is %%25); in a DSN, quote it: password='…'", name)
	}
	// LISTEN needs a primary. ValidateConnect is nil for "any", which is pgx's default but may also have been asked for.
	if cfg.ValidateConnect == nil && !strings.Contains(text, "target_session_attrs") {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "pgevict"
	}
	cfg.RuntimeParams["client_encoding"] = "UTF8" // keys are bytes: they must not depend on a database's encoding
	for _, name := range []string{"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity"} {
		delete(cfg.RuntimeParams, name) // of pgx itself; the server would refuse them
	}
	return cfg, nil
}

// ambiguous reports whether pgx has taken a piece of a password for something else: for a host, a database, a parameter.
// Errors of the connection would show those.
func ambiguous(text string, cfg *pgconn.Config) bool {
	if _, rest, ok := strings.Cut(text, "://"); ok && strings.HasPrefix(text, "postgres") {
		authority, path, _ := strings.Cut(rest, "/")
		if strings.Count(authority, "@") > 1 || strings.Contains(path, "@") {
			return true
		}
	}
	strange := func(host string) bool { return strings.ContainsAny(host, "@#?") }
	for parameter := range cfg.RuntimeParams {
		if strings.Trim(strings.ToLower(parameter), "abcdefghijklmnopqrstuvwxyz0123456789_.") != "" {
			return true
		}
	}
	return strange(cfg.Host) || slices.ContainsFunc(cfg.Fallbacks, func(f *pgconn.FallbackConfig) bool { return strange(f.Host) })
}

// Logger writes to w, in use standard error.
func (c Config) Logger(w io.Writer) *zap.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = func(t time.Time, e zapcore.PrimitiveArrayEncoder) { zapcore.ISO8601TimeEncoder(t.UTC(), e) }
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.LogFormat == LogConsole {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	sink := zapcore.Lock(zapcore.AddSync(w))
	return zap.New(zapcore.NewCore(encoder, sink, c.LogLevel), zap.ErrorOutput(sink))
}
