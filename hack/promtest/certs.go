package promtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificates are those of one Prometheus and its clients, in PEM, all signed by one CA.
type certificates struct {
	ca                    []byte
	pool                  *x509.CertPool
	serverCert, serverKey []byte
	clientCert, clientKey []byte
}

func newCertificates() (*certificates, error) {
	authority := template(1, "promtest CA")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	c := &certificates{pool: x509.NewCertPool()}
	if c.ca, err = sign(authority, authority, key, key); err != nil {
		return nil, err
	}
	c.pool.AppendCertsFromPEM(c.ca)

	server := template(2, "prometheus")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	if c.serverCert, c.serverKey, err = issue(server, authority, key); err != nil {
		return nil, err
	}
	client := template(3, "client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if c.clientCert, c.clientKey, err = issue(client, authority, key); err != nil {
		return nil, err
	}
	return c, nil
}

// clientConfig trusts the CA and has the client's certificate.
func (c *certificates) clientConfig() (*tls.Config, error) {
	pair, err := tls.X509KeyPair(c.clientCert, c.clientKey)
	if err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	return &tls.Config{RootCAs: c.pool, Certificates: []tls.Certificate{pair}}, nil
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// issue makes a key and a certificate for it.
func issue(subject, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) (cert, key []byte, err error) {
	private, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if cert, err = sign(subject, authority, private, authorityKey); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the key of %s: %w", subject.Subject.CommonName, err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func sign(subject, authority *x509.Certificate, subjectKey, authorityKey *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, subject, authority, subjectKey.Public(), authorityKey)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", subject.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
