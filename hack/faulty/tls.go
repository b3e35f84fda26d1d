package faulty

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TLS returns the address of a server that answers 503 over https, and the certificate, in PEM, of the authority that signed
// its own, which is for 127.0.0.1. change, which may be nil, changes how it speaks TLS.
func TLS(tb testing.TB, change func(*tls.Config)) (url string, authority []byte) {
	tb.Helper()
	return serveTLS(tb, time.Now().Add(time.Hour), change)
}

// Expired is TLS with a certificate that has expired.
func Expired(tb testing.TB) (url string, authority []byte) {
	tb.Helper()
	return serveTLS(tb, time.Now().Add(-time.Hour), nil)
}

func serveTLS(tb testing.TB, until time.Time, change func(*tls.Config)) (url string, authority []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Secret},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, Secret, http.StatusServiceUnavailable)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	if change != nil {
		change(server.TLS)
	}
	server.StartTLS()
	tb.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

// WithoutTLS returns the https address of a server that speaks http alone.
func WithoutTLS(tb testing.TB) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, Secret) }))
	tb.Cleanup(server.Close)
	return "https" + strings.TrimPrefix(server.URL, "http")
}
