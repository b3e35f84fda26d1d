package observe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"invariant.dev/operator/controllers/verdict"
)

// SecretReader reads a Secret as the API server has it now.
type SecretReader func(ctx context.Context, namespace, name string) (*corev1.Secret, error)

// keyring are the Secrets of one namespace that one look needs: each is read once, and none is kept.
type keyring struct {
	observer  *Observer
	namespace string
	// lease is what the Secrets take.
	lease *Lease

	mu      sync.Mutex
	secrets map[string]*loan
}

// loan is a Secret that is read once, by whoever needs it first.
type loan struct {
	once   sync.Once
	secret *corev1.Secret
	fault  *verdict.Fault
}

func (o *Observer) keyring(namespace string, lease *Lease) *keyring {
	return &keyring{observer: o, namespace: namespace, lease: lease, secrets: map[string]*loan{}}
}

// unlock adds to a request that is about to be sent what its source wants to see, and returns the client to send it with.
func (k *keyring) unlock(ctx context.Context, r request, sent *http.Request) (*http.Client, *verdict.Fault) {
	if r.secret != "" {
		if sent.URL.Scheme != "https" && !r.overHTTP {
			return nil, invalidSecret(r.secret, "it is not sent to %s: over http everyone on the way can read it. If that is meant, set allowCredentialsOverHTTP: true", shown(sent.URL))
		}
		secret, fault := k.secret(ctx, r.secret)
		if fault != nil {
			return nil, fault
		}
		if fault := authorize(sent, secret); fault != nil {
			return nil, fault
		}
	}
	if r.certSecret == "" {
		return k.observer.client(noIdentity, nil, nil), nil
	}
	if sent.URL.Scheme != "https" {
		return nil, invalidSecret(r.certSecret, "certSecretRef has no use for %s, which is not https", shown(sent.URL))
	}
	secret, fault := k.secret(ctx, r.certSecret)
	if fault != nil {
		return nil, fault
	}
	return k.observer.clientOf(secret)
}

// secret reads a Secret of the namespace.
func (k *keyring) secret(ctx context.Context, name string) (*corev1.Secret, *verdict.Fault) {
	k.mu.Lock()
	l := k.secrets[name]
	if l == nil {
		l = &loan{}
		k.secrets[name] = l
	}
	k.mu.Unlock()
	l.once.Do(func() { l.secret, l.fault = k.read(ctx, name) })
	return l.secret, l.fault
}

func (k *keyring) read(ctx context.Context, name string) (*corev1.Secret, *verdict.Fault) {
	if k.observer.Secrets == nil {
		return nil, invalidSecret(name, "%s", cmp.Or(k.observer.NoSecrets, "Secrets cannot be read here"))
	}
	secret, err := k.observer.Secrets(ctx, k.namespace, name)
	switch {
	case err == nil:
		return k.needed(secret)
	case apierrors.IsNotFound(err):
		return nil, invalidSecret(name, "there is no such Secret in namespace %s: create it", k.namespace)
	case apierrors.IsForbidden(err):
		return nil, &verdict.Fault{Reason: verdict.Forbidden, Message: fmt.Sprintf("Secret %[1]s may not be read. Who may read it allows it with: "+
			"kubectl create role operator-reads-%[1]s -n %[2]s --verb=get --resource=secrets --resource-name=%[1]s && "+
			"kubectl create rolebinding operator-reads-%[1]s -n %[2]s --role=operator-reads-%[1]s %[3]s", name, k.namespace, subjectFlag(k.observer.Identity))}
	case ctx.Err() != nil:
		return nil, &verdict.Fault{Reason: verdict.Timeout, Message: fmt.Sprintf("Secret %s: the API server did not give it in time", name)}
	default:
		return nil, &verdict.Fault{Reason: verdict.Unreachable, Message: fmt.Sprintf("Secret %s: the API server did not give it: %s", name, apiServerTrouble(err))}
	}
}

// secretKeys are what sources take from a Secret.
var secretKeys = []string{corev1.ServiceAccountTokenKey, corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey, authoritiesKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey}

// maxSecretBytes is how much a source may take from a Secret.
const maxSecretBytes = 64 << 10

// needed is what sources take from a Secret, and no more of it: the rest may be a megabyte.
func (k *keyring) needed(secret *corev1.Secret) (*corev1.Secret, *verdict.Fault) {
	data, size := map[string][]byte{}, 0
	for _, key := range secretKeys {
		if value, found := secret.Data[key]; found {
			data[key] = bytes.Clone(value)
			size += len(value)
		}
	}
	switch {
	case size > maxSecretBytes:
		return nil, invalidSecret(secret.Name, "what sources take from it (%s) is larger than %d KiB", strings.Join(secretKeys, ", "), maxSecretBytes>>10)
	case !k.lease.Take(int64(size)):
		return nil, &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("Secret %s: together with what else is read for this system or namespace "+
			"at this moment, it is more than the monitor holds", secret.Name)}
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name}, Type: secret.Type, Data: data}, nil
}

// subjectFlag is kubectl's flag for a user, in a command that binds a role to it.
func subjectFlag(user string) string {
	if namespace, name, err := serviceaccount.SplitUsername(user); err == nil {
		return fmt.Sprintf("--serviceaccount=%s:%s", namespace, name)
	}
	if user == "" {
		return "--user=USER"
	}
	return "--user=" + user
}

func invalidSecret(name, why string, args ...any) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.InvalidSecret, Message: fmt.Sprintf("Secret %s: ", name) + fmt.Sprintf(why, args...)}
}

// authorize puts the credentials of a Secret on a request.
func authorize(sent *http.Request, secret *corev1.Secret) *verdict.Fault {
	// A file that was made with echo ends in a line feed.
	token := strings.TrimSpace(string(secret.Data[corev1.ServiceAccountTokenKey]))
	username, named := secret.Data[corev1.BasicAuthUsernameKey]
	password := secret.Data[corev1.BasicAuthPasswordKey]
	switch {
	case secret.Type == corev1.SecretTypeServiceAccountToken:
		return invalidSecret(secret.Name, "it holds the token of a ServiceAccount, which is for the API server alone; put the token of the source into a Secret of type Opaque")
	case token != "" && named:
		return invalidSecret(secret.Name, "it has both token and username: one of them is needed")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return invalidSecret(secret.Name, "what is under token is no token: it has blanks or other characters in it that none has")
	case token != "":
		sent.Header.Set("Authorization", "Bearer "+token)
	case named:
		sent.SetBasicAuth(strings.TrimRight(string(username), "\r\n"), strings.TrimRight(string(password), "\r\n"))
	default:
		return invalidSecret(secret.Name, "it has neither token nor username and password")
	}
	return nil
}

// The key of a Secret that holds the authorities to trust.
const authoritiesKey = corev1.ServiceAccountRootCAKey

// clientOf is the client that trusts and shows what a Secret holds. Secrets that hold the same share one.
func (o *Observer) clientOf(secret *corev1.Secret) (*http.Client, *verdict.Fault) {
	authorities, certificate, key := secret.Data[authoritiesKey], secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	hash := sha256.New()
	for _, part := range [][]byte{authorities, certificate, key} {
		_, _ = fmt.Fprintf(hash, "%d:", len(part))
		_, _ = hash.Write(part)
	}
	var roots *x509.CertPool
	if len(authorities) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(authorities) {
			return nil, invalidSecret(secret.Name, "what is under %s is no certificate in PEM", authoritiesKey)
		}
	}
	var shown []tls.Certificate
	switch {
	case len(certificate) == 0 && len(key) == 0 && roots == nil:
		return nil, invalidSecret(secret.Name, "it has neither %s nor %s and %s", authoritiesKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	case len(certificate) > 0 || len(key) > 0:
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, invalidSecret(secret.Name, "what is under %s and %s is no certificate in PEM with its key", corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
		}
		shown = []tls.Certificate{pair}
	}
	return o.client([sha256.Size]byte(hash.Sum(nil)), roots, shown), nil
}
