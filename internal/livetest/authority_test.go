package livetest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

func issue(t *testing.T, a *Authority, name string, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := a.Issue(name, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func TestTLSRedis(t *testing.T) {
	t.Parallel()
	ours, others := NewAuthority(t), NewAuthority(t)
	r := NewTLSRedis(t, ours, true)
	ping := func(trusted, issuer *Authority) error {
		pem, err := os.ReadFile(trusted.File)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		config := &tls.Config{RootCAs: pool}
		if issuer != nil {
			pair, err := tls.LoadX509KeyPair(issue(t, issuer, "client"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		rdb := redis.NewClient(&redis.Options{Addr: r.TLSAddr, TLSConfig: config, MaxRetries: -1, DialerRetries: 1})
		defer rdb.Close()
		return rdb.Ping(t.Context()).Err()
	}
	if err := ping(ours, ours); err != nil {
		t.Error(err)
	}
	if ping(others, ours) == nil || ping(ours, others) == nil || ping(ours, nil) == nil {
		t.Error("it takes a certificate of another authority, or none")
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ping(ours, ours); err != nil {
		t.Errorf("started again: %v", err)
	}
}

func TestTLSPostgres(t *testing.T) {
	t.Parallel()
	ours, others := NewAuthority(t), NewAuthority(t)
	cert, key := issue(t, ours, "postgres", "127.0.0.1")
	pg := NewPostgres(t, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key)
	connect := func(trusted *Authority) error {
		conn, err := pgconn.Connect(t.Context(), "postgres://postgres@"+pg.Addr+"/postgres?sslmode=verify-full&sslrootcert="+trusted.File)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err
	}
	if err := connect(ours); err != nil {
		t.Error(err)
	}
	if connect(others) == nil {
		t.Error("the certificate is good for the other authority, too")
	}
}
