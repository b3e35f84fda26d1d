package observe

import (
	"context"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// holding is an Observer whose Secrets are all this one.
func holding(secretType corev1.SecretType, data map[string]string) *Observer {
	o := NewObserver(loopback)
	o.Secrets = func(_ context.Context, namespace, name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: secretType, Data: map[string][]byte{}}
		for key, value := range data {
			secret.Data[key] = []byte(value)
		}
		return secret, nil
	}
	return o
}

// withSecret is a spec that sends what a Secret holds.
func withSecret(address string, overHTTP bool) *v1alpha1.InvariantSpec {
	spec := urlSpec(address, plenty)
	spec.Source.HTTP.Access = v1alpha1.Access{SecretRef: &v1alpha1.SecretReference{Name: "auth"}, AllowCredentialsOverHTTP: overHTTP}
	return spec
}

func TestWhatASecretHoldsIsWhatIsSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		data map[string]string
		want string
	}{
		"a token":                         {map[string]string{"token": "abc.def-_~+/="}, "Bearer abc.def-_~+/="},
		"a token that echo wrote":         {map[string]string{"token": "abc\r\n"}, "Bearer abc"},
		"a user and a password":           {map[string]string{"username": "ana", "password": "pass word"}, "Basic YW5hOnBhc3Mgd29yZA=="},
		"the same, written by echo":       {map[string]string{"username": "ana\n", "password": "pass word\n"}, "Basic YW5hOnBhc3Mgd29yZA=="},
		"a user without a password":       {map[string]string{"username": "ana"}, "Basic YW5hOg=="},
		"a token beside unrelated things": {map[string]string{"token": "abc", "ca.crt": "x"}, "Bearer abc"},
	} {
		address, requests := recording(t, answerJSON)
		if seen := observe(t.Context(), holding(corev1.SecretTypeOpaque, test.data), withSecret(address, true)); seen.Fault != nil {
			t.Errorf("%s: %v", name, seen.Fault)
			continue
		}
		if got := requests()[0].Header.Get("Authorization"); got != test.want {
			t.Errorf("%s: %q is sent, want %q", name, got, test.want)
		}
	}
}

func TestWhatASecretShouldNotHoldIsNotSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		secretType corev1.SecretType
		data       map[string]string
		says       string
	}{
		"the token of a ServiceAccount": {corev1.SecretTypeServiceAccountToken, map[string]string{"token": "s3cr3t"}, "it holds the token of a ServiceAccount, which is for the API server alone"},
		"a token with a line in it":     {corev1.SecretTypeOpaque, map[string]string{"token": "s3cr3t\r\nX-Admin: true"}, "what is under token is no token"},
		"a token with a blank in it":    {corev1.SecretTypeOpaque, map[string]string{"token": "Bearer s3cr3t"}, "what is under token is no token"},
		"an empty token":                {corev1.SecretTypeOpaque, map[string]string{"token": "\n"}, "it has neither token nor username and password"},
		"a password alone":              {corev1.SecretTypeOpaque, map[string]string{"password": "s3cr3t"}, "it has neither token nor username and password"},
		"a token and a user":            {corev1.SecretTypeOpaque, map[string]string{"token": "s3cr3t", "username": "ana"}, "it has both token and username"},
	} {
		address, requests := recording(t, answerJSON)
		seen := observe(t.Context(), holding(test.secretType, test.data), withSecret(address, true))
		if seen.Fault == nil || seen.Fault.Reason != verdict.InvalidSecret || !strings.Contains(seen.Fault.Message, "Secret auth: "+test.says) {
			t.Errorf("%s: %v", name, seen.Fault)
			continue
		}
		if strings.Contains(seen.Fault.Message, "s3cr3t") || len(requests()) != 0 {
			t.Errorf("%s: %v, after %d requests", name, seen.Fault, len(requests()))
		}
	}
}

func TestCredentialsGoOverHTTPOnlyWhereTheInvariantSaysSo(t *testing.T) {
	t.Parallel()
	o := holding(corev1.SecretTypeOpaque, map[string]string{"token": "s3cr3t"})
	address, requests := recording(t, answerJSON)
	for _, url := range []string{address, strings.Replace(address, "http:", "HTTP:", 1)} {
		seen := observe(t.Context(), o, withSecret(url, false))
		if seen.Fault == nil || seen.Fault.Reason != verdict.InvalidSecret || !strings.Contains(seen.Fault.Message, "set allowCredentialsOverHTTP: true") {
			t.Errorf("%s: %v", url, seen.Fault)
		}
	}
	if len(requests()) != 0 {
		t.Error("it was sent")
	}
	certificates := urlSpec(address, plenty)
	certificates.Source.HTTP.CertSecretRef = &v1alpha1.SecretReference{Name: "tls"}
	if seen := observe(t.Context(), o, certificates); seen.Fault == nil || !strings.Contains(seen.Fault.Message, "certSecretRef has no use for "+address+", which is not https") {
		t.Errorf("a certificate for http: %v", seen.Fault)
	}
}

func TestASecretIsReadOnceForAllThatALookAsks(t *testing.T) {
	t.Parallel()
	o := holding(corev1.SecretTypeOpaque, map[string]string{"token": "abc"})
	read, secrets := 0, o.Secrets
	o.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		read++
		return secrets(ctx, namespace, name)
	}
	address, requests := recording(t, answerJSON)
	spec := &v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Access: withSecret(address, true).Source.HTTP.Access, Timeout: timeout(plenty)}}}
	for _, id := range []string{"1", "2", "3"} {
		spec.Source.HTTP.Endpoints = append(spec.Source.HTTP.Endpoints, v1alpha1.Endpoint{StoreID: id, URL: address + "/" + id})
	}
	observe(t.Context(), o, spec)
	if read != 1 || len(requests()) != 3 {
		t.Errorf("the Secret was read %d times for %d requests", read, len(requests()))
	}
}

func TestOfALargeSecretOnlyWhatSourcesTakeIsHeld(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, answerJSON)
	for name, test := range map[string]struct {
		data   map[string]string
		held   int64
		reason verdict.Reason
	}{
		"what nobody takes":           {map[string]string{"token": "abc", "dump": strings.Repeat("x", 900_000)}, 3, ""},
		"more than a source may take": {map[string]string{"token": "abc", "ca.crt": strings.Repeat("x", 65<<10)}, 0, verdict.InvalidSecret},
	} {
		o := holding(corev1.SecretTypeOpaque, test.data)
		spec := withSecret(address, true)
		look := o.Look(t.Context(), system, []*v1alpha1.InvariantSpec{spec})
		a := look.answers[newRequest(address, spec.Source.HTTP.Access)]
		wants := test.reason == ""
		if seen := look.Observation(spec); (seen.Fault == nil) != wants || !wants && seen.Fault.Reason != test.reason {
			t.Errorf("%s: the observation is %v", name, seen.Fault)
		}
		if ofSecrets := look.lease.held - int64(cap(a.content)) - parsedBytes(a.content); ofSecrets != test.held {
			t.Errorf("%s: %d bytes are held, want %d", name, ofSecrets, test.held)
		}
		look.Release()
	}
}

func TestOfThoseWhoReadAnAddressOnlyWhoNamesTheSecretSendsIt(t *testing.T) {
	t.Parallel()
	address, requests := recording(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		answerJSON(w, r)
	})
	with, without := withSecret(address, true), urlSpec(address, plenty)
	o := holding(corev1.SecretTypeOpaque, map[string]string{"token": "abc"})
	look := o.Look(t.Context(), system, []*v1alpha1.InvariantSpec{with, without})
	defer look.Release()
	if seen := look.Observation(with); seen.Fault != nil {
		t.Errorf("with the Secret: %v", seen.Fault)
	}
	if seen := look.Observation(without); seen.Fault == nil || seen.Fault.Reason != verdict.HTTPStatus {
		t.Errorf("without: %v", seen.Fault)
	}
	if n := len(requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}
