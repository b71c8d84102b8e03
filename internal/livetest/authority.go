package livetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority issues certificates, and is trusted by whoever is given its file.
type Authority struct {
	File string // its own certificate

	host
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// StartAuthority makes a new authority, which no other's certificates satisfy.
func StartAuthority() (*Authority, error) {
	user, err := unprivileged()
	if err != nil {
		return nil, fmt.Errorf("start an authority: %w", err)
	}
	h, err := newHost("authority", user)
	if err != nil {
		return nil, fmt.Errorf("start an authority: %w", err)
	}
	a := &Authority{host: h}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: filepath.Base(h.dir)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if a.File, _, a.key, err = a.sign("ca", a.cert); err != nil {
		return nil, errors.Join(fmt.Errorf("start an authority: %w", err), a.Close())
	}
	return a, nil
}

// Issue makes a certificate and its key, and gives their files. Hosts are the names and addresses of a server; the name
// is enough for a client, as a user's name for one. The same name again replaces the files.
func (a *Authority) Issue(name string, hosts ...string) (certFile, keyFile string, err error) {
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	if certFile, keyFile, _, err = a.sign(name, cert); err != nil {
		return "", "", fmt.Errorf("issue a certificate: %w", err)
	}
	return certFile, keyFile, nil
}

// sign makes a key, and has the authority sign the certificate of it; its own, too, when it has no key yet.
func (a *Authority) sign(name string, cert *x509.Certificate) (certFile, keyFile string, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return "", "", nil, err
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	now := time.Now()
	cert.SerialNumber, cert.NotBefore, cert.NotAfter = big.NewInt(now.UnixNano()), now.Add(-time.Hour), now.Add(24*time.Hour)
	signed, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, signer)
	if err != nil {
		return "", "", nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, err
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	err = errors.Join(a.write(certFile, "CERTIFICATE", signed), a.write(keyFile, "PRIVATE KEY", secret))
	return certFile, keyFile, key, err
}

// write has the file belong to the user of Postgres, who takes no key that is anybody else's; Redis, which runs as
// whoever runs the tests, can read it all the same.
func (a *Authority) write(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return err
	}
	if a.user == nil {
		return nil
	}
	return os.Chown(path, int(a.user.Uid), int(a.user.Gid))
}

// Close removes the files.
func (a *Authority) Close() error { return os.RemoveAll(a.dir) }
