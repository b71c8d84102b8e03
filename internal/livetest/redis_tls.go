package livetest

import (
	"fmt"
	"strconv"
)

// TLSRedis is a Redis that takes TLS on a second port; the plain one is for whoever tests.
type TLSRedis struct {
	*Redis
	TLSAddr           string // host and port
	CertFile, KeyFile string // of the server; one that starts again reads them again

	args []string
}

// StartTLSRedis starts a server with a certificate of an authority for 127.0.0.1 and localhost. clientsNeedCert says
// whether its clients need one of that authority as well.
func StartTLSRedis(a *Authority, clientsNeedCert bool, args ...string) (*TLSRedis, error) {
	cert, key, err := a.Issue("redis", "127.0.0.1", "localhost")
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	auth := "no"
	if clientsNeedCert {
		auth = "yes"
	}
	r := &TLSRedis{CertFile: cert, KeyFile: key}
	err = onFreePort(func(port int) error {
		r.TLSAddr = loopback(port)
		r.args = append([]string{
			"--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key,
			"--tls-ca-cert-file", a.File, "--tls-auth-clients", auth,
		}, args...)
		r.Redis, err = StartRedis(r.args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Start starts a killed server again, as Redis.Start does, and with the arguments of the first start.
func (r *TLSRedis) Start() error { return r.Redis.Start(r.args...) }
