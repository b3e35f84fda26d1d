package main

import (
	"os"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"
)

// granted are the rights that a role gives, one by one.
func granted(t *testing.T, path string) sets.Set[authorizationv1.ResourceAttributes] {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(content, &role); err != nil {
		t.Fatal(err)
	}
	all := sets.New[authorizationv1.ResourceAttributes]()
	for _, rule := range role.Rules {
		if len(rule.ResourceNames) > 0 || len(rule.NonResourceURLs) > 0 {
			t.Errorf("this test does not know what to make of %v", rule)
		}
		for _, group := range rule.APIGroups {
			for _, name := range rule.Resources {
				resource, subresource, _ := strings.Cut(name, "/")
				all.Insert(rights(group, resource, subresource, rule.Verbs...)...)
			}
		}
	}
	return all
}

func TestTheMonitorAsksForJustTheRightsThatItsRoleGives(t *testing.T) {
	asked, given := sets.New(needed...), granted(t, "../../config/rbac/role.yaml")
	for right := range asked.Difference(given) {
		t.Errorf("operator monitor asks for a right that config/rbac/role.yaml does not give: %s %s", right.Verb, right.Resource)
	}
	for right := range given.Difference(asked) {
		t.Errorf("config/rbac/role.yaml gives a right that operator monitor does not ask for: %s %s", right.Verb, right.Resource)
	}
}
