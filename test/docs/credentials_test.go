package docs

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/verdict"
)

// keepSecrets makes the Secrets that the example names.
func (b *bench) keepSecrets(t *testing.T) {
	t.Helper()
	certificate, key := b.sources.gate.pem(t)
	for name, data := range map[string]map[string][]byte{
		"pd-auth": {"token": []byte("first")},
		"pd-tls":  {"ca.crt": certificate, "tls.crt": certificate, "tls.key": key},
	} {
		must(t, b.admin.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}))
	}
}

// changeToken writes what stands in the Secret.
func (b *bench) changeToken(t *testing.T, data map[string][]byte) {
	t.Helper()
	secret := &corev1.Secret{}
	must(t, b.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "pd-auth"}, secret))
	secret.Data = data
	must(t, b.admin.Update(t.Context(), secret))
}

// proveRotation goes on where the proof of the example has shown that the monitor may read the Secrets.
func (b *bench) proveRotation(t *testing.T) {
	manifest := ""
	for _, example := range b.document.in(t, "Credentials", "yaml") {
		manifest += example.text
	}
	invariant := b.applied(t, manifest)
	program, err := judge.Compile(&invariant.Spec)
	must(t, err)
	spec := b.set(t, invariant, proof{Answer: []byte(`[{"name": "pd-0", "health": true}]`)})
	says := func(want string) {
		t.Helper()
		var past judge.Past
		result := b.look(t, invariant, program, &past, spec)
		said := result.Truth().String()
		if result.Fault != nil {
			said = b.sources.named(result.Fault.Error())
		}
		if said != want {
			t.Errorf("it says\n%s\nand not\n%s", said, want)
		}
	}
	b.sources.gate.ask("second")
	says("HTTPStatus: GET https://pd.tikv-prod:2379/pd/api/v1/health: 401 Unauthorized; the credentials in Secret pd-auth may not read this")
	b.changeToken(t, map[string][]byte{"token": []byte("second\n")})
	says(verdict.Satisfied.String())
	b.changeToken(t, nil)
	const invalid = "Secret pd-auth: it has neither token nor username and password"
	if !strings.Contains(b.document.text, "`"+invalid+"`") {
		t.Errorf("the guide does not have %s", invalid)
	}
	says("InvalidSecret: " + invalid)

	t.Run("the API server takes no secretRef with http", func(t *testing.T) {
		plain := invariant.DeepCopy()
		plain.Name, plain.ResourceVersion, plain.UID = "plain", "", ""
		plain.Spec.Source.HTTP.URL = "http://pd.tikv-prod:2379/pd/api/v1/health"
		if err := b.admin.Create(t.Context(), plain.DeepCopy(), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "allowCredentialsOverHTTP: true") {
			t.Errorf("the error is %v", err)
		}
		plain.Spec.Source.HTTP.AllowCredentialsOverHTTP = true
		must(t, b.admin.Create(t.Context(), plain, client.DryRunAll))
	})
}
