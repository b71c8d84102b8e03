package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrorKind names an error of a connection in a word or two, which hold nothing of its configuration.
func ErrorKind(err error) string {
	var (
		server  *pgconn.PgError
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
		file    *fs.PathError
		network net.Error
	)
	switch {
	case errors.Is(err, ErrPooler):
		return "pooler"
	case errors.Is(err, ErrDeaf):
		return "deaf"
	case errors.Is(err, ErrSilent):
		return "silent"
	case errors.Is(err, ErrStandby), errors.Is(err, pgconn.ErrReadOnlyConnection):
		return "standby"
	case errors.As(err, &server):
		return serverKind(server.Code)
	case errors.As(err, &name):
		return "dns"
	case errors.As(err, &cert):
		return "tls"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &file):
		return "file"
	}
	return "connection"
}

// serverKind names what the server answered: https://www.postgresql.org/docs/current/errcodes-appendix.html.
func serverKind(code string) string {
	switch {
	case strings.HasPrefix(code, "28"): // the password, the user, pg_hba.conf
		return "auth"
	case code == "3D000":
		return "no such database"
	case code == "53300":
		return "too many connections"
	case code == "57P03":
		return "starting or stopping"
	case strings.HasPrefix(code, "57P"):
		return "ended by the server"
	}
	return "sqlstate " + code
}
