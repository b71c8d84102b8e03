package config

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions reads and parses the URL afresh on every call. As in PostgresConfig, no error shows any of it. With a
// MasterName the addresses are those of sentinels; without one, several are those of a Cluster. Passwords in a file and
// certificates may be rotated: the options' functions read them again for each connection. Where the servers are counts
// as it was when the options were made.
func (c Config) RedisOptions() (*redis.UniversalOptions, error) {
	u, query, err := redisURL(c.RedisURL)
	if err != nil {
		return nil, err
	}
	own, err := takeOwn(c.RedisURL.name, u.Scheme, query)
	if err != nil {
		return nil, err
	}
	addrs, err := own.addresses(u)
	if err != nil {
		return nil, err
	}
	u.RawQuery = query.Encode()
	parsed, err := redis.ParseURL(u.String())
	if err != nil || parsed.DB < 0 {
		return nil, unusableRedis(own.variable)
	}
	if len(own.addrs) > 0 && own.master == "" && parsed.DB != 0 {
		return nil, fmt.Errorf("%s: several addr= without a master_name= mean Cluster, which has no database but 0", own.variable)
	}
	options := universal(parsed)
	options.Addrs, options.MasterName = addrs, own.master
	options.SentinelUsername, options.SentinelPassword = own.sentinelUser, own.sentinelPassword
	options.ContextTimeoutEnabled = true // go-redis ignores the deadlines of contexts otherwise
	options.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
		u, _, err := redisURL(c.RedisURL)
		if err != nil {
			return "", "", err
		}
		password, _ = u.User.Password()
		return u.User.Username(), password, nil
	}
	dialer := &net.Dialer{
		Timeout:         max(0, cmp.Or(parsed.DialTimeout, 5*time.Second)), // for what go-redis dials without a deadline
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	options.Dialer = dialer.DialContext
	if parsed.TLSConfig != nil {
		own.tls.skipVerify = parsed.TLSConfig.InsecureSkipVerify
		options.Dialer = own.tls.dialer(dialer)
		if _, err := own.tls.config(); err != nil {
			return nil, err
		}
	}
	return options, nil
}

// redisURL reads the URL and its parameters.
func redisURL(s Secret) (*url.URL, url.Values, error) {
	text, err := s.value(RedisURL)
	if err != nil {
		return nil, nil, err
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, nil, unusableRedis(s.name)
	}
	query, err := url.ParseQuery(u.RawQuery)
	// A fragment, an @ among the parameters, or a host before a socket's path, is the end of a password that was cut off.
	cut := strings.Contains(text, "#") || strings.Contains(u.RawQuery, "@") || u.Scheme == "unix" && u.Host != ""
	if err != nil || cut || u.Opaque != "" {
		return nil, nil, unusableRedis(s.name)
	}
	return u, query, nil
}

func unusableRedis(name string) error {
	return fmt.Errorf("%s: not a usable Redis URL (redis://, rediss:// or unix://, a number as the database, known "+
		"parameters); percent-encode the special characters of passwords (/ is %%2F, # is %%23, %% is %%25, @ is %%40)", name)
}

// redisParameters are the parameters of the URL that go-redis does not know.
type redisParameters struct {
	variable                       string   // that holds the URL
	addrs                          []string // beside the URL's own
	master                         string
	sentinelUser, sentinelPassword string
	tls                            redisTLS
}

// takeOwn takes them out of the query.
func takeOwn(variable, scheme string, query url.Values) (redisParameters, error) {
	take := func(parameter string) string {
		values := query[parameter]
		query.Del(parameter)
		if len(values) == 0 {
			return ""
		}
		return values[len(values)-1] // which go-redis takes of those that it knows
	}
	own := redisParameters{
		variable: variable, addrs: query["addr"], master: take("master_name"),
		sentinelUser: take("sentinel_username"), sentinelPassword: take("sentinel_password"),
		tls: redisTLS{ca: take("cacert"), cert: take("cert"), key: take("key"), serverName: take("tls_server_name")},
	}
	query.Del("addr")
	var problem string
	switch {
	case scheme != "rediss" && (own.tls != redisTLS{} || query.Has("skip_verify")):
		problem = "cacert, cert, key, tls_server_name and skip_verify are for TLS: use rediss://"
	case scheme == "unix" && (len(own.addrs) > 0 || own.master != ""):
		problem = "a socket (unix://) is one server: neither addr= nor master_name= goes with it"
	case own.master == "" && own.sentinelUser+own.sentinelPassword != "":
		problem = "sentinel_username and sentinel_password are for Sentinel: they need a master_name"
	case !regexp.MustCompile(`^[\w.-]*$`).MatchString(own.master): // as Sentinel itself has it
		problem = "master_name may hold letters, digits, dots, dashes and underscores alone"
	case (own.tls.cert == "") != (own.tls.key == ""):
		problem = "cert and key go together; one is missing"
	}
	if problem != "" {
		return own, fmt.Errorf("%s: %s", variable, problem)
	}
	own.tls.variable = variable
	return own, nil
}

// addresses returns those of u and of each addr=, with their ports.
func (own redisParameters) addresses(u *url.URL) ([]string, error) {
	if u.Scheme == "unix" {
		return []string{u.Path}, nil // go-redis takes what begins with a / for a socket
	}
	servers := []*url.URL{u}
	for _, addr := range own.addrs {
		server, err := url.Parse("//" + addr)
		if err != nil || addr == "" || server.Host != addr { // then there is more to it than an address
			return nil, fmt.Errorf("%s: an addr= is neither host:port nor host", own.variable)
		}
		servers = append(servers, server)
	}
	usual := "6379"
	if own.master != "" {
		usual = "26379"
	}
	var addrs []string
	for _, server := range servers {
		host, port := cmp.Or(server.Hostname(), "localhost"), cmp.Or(server.Port(), usual)
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strings.ContainsAny(host, ":,") && !strings.HasPrefix(server.Host, "[") {
			return nil, unusableRedis(own.variable)
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs, nil
}

// universal takes over all that a URL can say to go-redis, but for the password, which is asked for when it is needed.
func universal(o *redis.Options) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		DB: o.DB, Protocol: o.Protocol, ClientName: o.ClientName, Username: o.Username,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MaxConcurrentDials: o.MaxConcurrentDials,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		PipelinePoolSize: o.PipelinePoolSize, PipelineReadBufferSize: o.PipelineReadBufferSize,
		PipelineWriteBufferSize: o.PipelineWriteBufferSize,
	}
}

// redisTLS is what the parameters of a rediss:// URL say.
type redisTLS struct {
	variable   string // that holds the URL
	ca         string // file; empty: the system's authorities
	cert, key  string // files; empty: none
	serverName string // empty: the host that is dialled
	skipVerify bool
}

// dialer dials one server, be it a node of a Cluster or a sentinel. (go-redis takes a TLS configuration as well, but one
// that stays as it was, and leaves it alone when it has a dialer.)
func (t redisTLS) dialer(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		config, err := t.config()
		if err != nil {
			return nil, err
		}
		conn, err := (&tls.Dialer{NetDialer: d, Config: config}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, fmt.Errorf("connect with TLS: %w", err) // a server without TLS may wait in silence
		}
		return conn, nil
	}
}

// config reads the files.
func (t redisTLS) config() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.serverName,
		InsecureSkipVerify: t.skipVerify, //nolint:gosec // the operator says so: skip_verify=true
	}
	if t.ca != "" {
		pem, err := t.read("cacert", t.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: cacert: no certificate (PEM) in that file", t.variable)
		}
	}
	if t.cert != "" {
		cert, certErr := t.read("cert", t.cert)
		key, keyErr := t.read("key", t.key)
		if err := cmp.Or(certErr, keyErr); err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: cert and key: %w", t.variable, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (t redisTLS) read(parameter, path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) && strings.ContainsAny(path, ":=@") {
		err = pathErr.Err // perhaps a secret: not to be shown
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", t.variable, parameter, err)
	}
	return text, nil
}
