package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/hack/history"
)

const ticketsFile = "operator.invariant.dev_tickets.yaml"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ours are the CRDs of this repository.
func ours(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crds, err := clone{history.Clone{Dir: "../.."}}.crds()
	must(t, err)
	return crds
}

type schema = apiextensionsv1.JSONSchemaProps

// at changes the schema at a path such as spec.violations[].invariant.
func at(crd *apiextensionsv1.CustomResourceDefinition, path string, change func(*schema)) {
	var walk func(s *schema, names []string)
	walk = func(s *schema, names []string) {
		if len(names) == 0 {
			change(s)
			return
		}
		name, isList := strings.CutSuffix(names[0], "[]")
		child := s.Properties[name]
		if isList {
			walk(child.Items.Schema, names[1:])
		} else {
			walk(&child, names[1:])
		}
		s.Properties[name] = child
	}
	walk(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, strings.Split(path, "."))
}

func TestWhatIsNotBackwardCompatibleIsFound(t *testing.T) {
	schemas := func(path string, change func(*schema)) func(*apiextensionsv1.CustomResourceDefinition) {
		return func(crd *apiextensionsv1.CustomResourceDefinition) { at(crd, path, change) }
	}
	type crd = *apiextensionsv1.CustomResourceDefinition
	for name, test := range map[string]struct {
		change func(crd)
		// want is what the only finding says, or "" where the change is compatible.
		want string
	}{
		"a field is removed":             {schemas("spec", func(s *schema) { delete(s.Properties, "previous") }), "removed field : v1alpha1.^.spec.previous"},
		"a field of a list is removed":   {schemas("spec.violations[]", func(s *schema) { delete(s.Properties, "message") }), "removed field : v1alpha1.^.spec.violations[*].message"},
		"a type changes":                 {schemas("spec.system", func(s *schema) { s.Type = "integer" }), `^.spec.system: type: type changed : "string" -> "integer"`},
		"a length is tightened":          {schemas("spec.system", func(s *schema) { s.MaxLength = ptr.To[int64](30) }), "^.spec.system: maxLength: maximum decreased : 40 -> 30"},
		"a list is made shorter":         {schemas("spec.violations", func(s *schema) { s.MaxItems = ptr.To[int64](10) }), "^.spec.violations: maxItems: maximum decreased : 1000 -> 10"},
		"a maximum is tightened":         {schemas("status.occurrences", func(s *schema) { s.Maximum = ptr.To(9.0) }), "^.status.occurrences: maximum: maximum decreased : "},
		"a maximum is new":               {schemas("status.summary", func(s *schema) { s.Maximum = ptr.To(9.0) }), "^.status.summary: maximum: maximum constraint added when there was none previously : 9"},
		"a minimum is raised":            {schemas("spec.system", func(s *schema) { s.MinLength = ptr.To[int64](2) }), "^.spec.system: minLength: minimum increased : 1 -> 2"},
		"a value of an enum is removed":  {schemas("spec.violations[].reason", func(s *schema) { s.Enum = s.Enum[:1] }), `^.spec.violations[*].reason: enum: allowed enum values removed : ["Unobservable"]`},
		"a pattern changes":              {schemas("spec.openedTime", func(s *schema) { s.Pattern = "^2" }), `^.spec.openedTime: pattern: changed: "^[0-9]`},
		"a pattern is new":               {schemas("spec.system", func(s *schema) { s.Pattern = "^a" }), `^.spec.system: pattern: changed: "" -> "^a"`},
		"a field becomes required":       {schemas("spec", func(s *schema) { s.Required = append(s.Required, "previous") }), "^.spec: required: "},
		"a default changes":              {schemas("status", func(s *schema) { s.Default = &apiextensionsv1.JSON{Raw: []byte(`{}`)} }), "^.status: default: "},
		"a format changes":               {schemas("spec.openedTime", func(s *schema) { s.Format = "date" }), `^.spec.openedTime: other: format changed: "date-time" -> "date"`},
		"a kind of list changes":         {schemas("spec.violations", func(s *schema) { s.XListType = ptr.To("set") }), "^.spec.violations: other: x-kubernetes-list-type changed: "},
		"a CEL rule is new":              {schemas("spec.system", addRule("self != 'a'", nil)), "^.spec.system: x-kubernetes-validations: new rule: self != 'a'"},
		"a new CEL rule binds creations": {schemas("spec.system", addRule("self != oldSelf", ptr.To(true))), "new rule: self != oldSelf (optionalOldSelf)"},
		"the scope changes":              {func(c crd) { c.Spec.Scope = apiextensionsv1.ClusterScoped }, "scope changed"},
		"a version is removed":           {func(c crd) { c.Spec.Versions[0].Name = "v1" }, "stored versions removed : [v1alpha1]"},
		"a version is no longer served":  {func(c crd) { c.Spec.Versions[0].Served = false }, "v1alpha1 is no longer served"},
		"the status is no subresource":   {func(c crd) { c.Spec.Versions[0].Subresources = nil }, "the subresource status is added or removed"},
		"a short name is removed":        {func(c crd) { c.Spec.Names.ShortNames = nil }, "the short name tkt is removed"},
		"a category is removed":          {func(c crd) { c.Spec.Names.Categories = nil }, "the category operator is removed"},
		"a kind is renamed":              {func(c crd) { c.Spec.Names.Kind = "Case" }, "the kind changed: Ticket -> Case"},
		"a column is removed": {func(c crd) {
			c.Spec.Versions[0].AdditionalPrinterColumns = c.Spec.Versions[0].AdditionalPrinterColumns[1:]
		}, "v1alpha1: the column State (string .status.state) is removed"},
		"a field selector is removed": {func(c crd) { c.Spec.Versions[0].SelectableFields = c.Spec.Versions[0].SelectableFields[1:] }, "v1alpha1: the field selector ."},

		"nothing changes": {func(crd) {}, ""},
		"a field is added": {schemas("spec", func(s *schema) {
			s.Properties["new"] = schema{Type: "string", MaxLength: ptr.To[int64](3), Pattern: "^a"}
		}), ""},
		"a length is loosened":            {schemas("spec.system", func(s *schema) { s.MaxLength = ptr.To[int64](63) }), ""},
		"a value of an enum is added":     {schemas("spec.violations[].reason", func(s *schema) { s.Enum = append(s.Enum, apiextensionsv1.JSON{Raw: []byte(`"New"`)}) }), ""},
		"a field need no longer be there": {schemas("spec", func(s *schema) { s.Required = nil }), ""},
		"a pattern is removed":            {schemas("spec.openedTime", func(s *schema) { s.Pattern = "" }), ""},
		"a CEL rule is removed":           {schemas("spec.openedTime", func(s *schema) { s.XValidations = nil }), ""},
		"a CEL rule is worded anew": {schemas("spec.openedTime", func(s *schema) {
			s.XValidations = slices.Clone(s.XValidations)
			s.XValidations[0].Message = "no"
		}), ""},
		"a new CEL rule binds changes alone": {schemas("spec.system", addRule("self == oldSelf", nil)), ""},
		"a description changes":              {schemas("spec.system", func(s *schema) { s.Description = "other" }), ""},
		"a column is added": {func(c crd) {
			c.Spec.Versions[0].AdditionalPrinterColumns = append(c.Spec.Versions[0].AdditionalPrinterColumns, apiextensionsv1.CustomResourceColumnDefinition{Name: "New"})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			older := ours(t)
			newer := maps.Clone(older)
			newer[ticketsFile] = older[ticketsFile].DeepCopy()
			test.change(newer[ticketsFile])
			found, err := compareAll(older, newer)
			must(t, err)
			if test.want == "" {
				if len(found) != 0 {
					t.Errorf("found %q, want nothing", found)
				}
				return
			}
			if len(found) != 1 || !strings.HasPrefix(found[0], "tickets.operator.invariant.dev: ") || !strings.Contains(found[0], test.want) {
				t.Errorf("found %q, want only: %s", found, test.want)
			}
		})
	}
}

func addRule(rule string, optionalOldSelf *bool) func(*schema) {
	return func(s *schema) {
		s.XValidations = append(slices.Clone(s.XValidations), apiextensionsv1.ValidationRule{Rule: rule, OptionalOldSelf: optionalOldSelf})
	}
}

func TestARemovedCRDIsFound(t *testing.T) {
	older := ours(t)
	newer := maps.Clone(older)
	delete(newer, ticketsFile)
	found, err := compareAll(older, newer)
	must(t, err)
	if want := []string{"tickets.operator.invariant.dev: the CRD is removed"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// repository is a clone made for a test, with the CRDs of this repository.
type repository struct {
	*testing.T
	clone
}

func newRepository(t *testing.T) repository {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull,
		"GIT_AUTHOR_NAME": "ana", "GIT_AUTHOR_EMAIL": "ana@example.org", "GIT_COMMITTER_NAME": "ana", "GIT_COMMITTER_EMAIL": "ana@example.org",
		// A clone further up is none of these tests' business.
		"GIT_CEILING_DIRECTORIES": os.TempDir(),
	} {
		t.Setenv(name, value)
	}
	r := repository{t, clone{history.Clone{Dir: t.TempDir()}}}
	must(t, os.MkdirAll(filepath.Join(r.Dir, bases), 0o755))
	for file, crd := range ours(t) {
		r.write(file, crd)
	}
	return r
}

func (r repository) write(file string, crd *apiextensionsv1.CustomResourceDefinition) {
	r.Helper()
	content, err := yaml.Marshal(crd)
	must(r.T, err)
	must(r.T, os.WriteFile(filepath.Join(r.Dir, bases, file), content, 0o644))
}

// bound changes a bound of the CRD of tickets in the work tree.
func (r repository) bound(maxLength int64) {
	r.Helper()
	crd := ours(r.T)[ticketsFile]
	at(crd, "spec.system", func(s *schema) { s.MaxLength = &maxLength })
	r.write(ticketsFile, crd)
}

func (r repository) run(args ...string) {
	r.Helper()
	_, err := r.Git(r.Context(), args...)
	must(r.T, err)
}

func (r repository) commit(message string) {
	r.Helper()
	r.run("add", ".")
	r.run("commit", "--quiet", "--allow-empty", "-m", message)
}

// wants runs the check and wants its exit code, and all of the words in what it prints.
func (r repository) wants(code int, accepted string, words ...string) {
	r.Helper()
	var out strings.Builder
	got, err := check(r.Context(), r.clone, "", parseAccepted(accepted), &out)
	must(r.T, err)
	if got != code {
		r.Errorf("the exit code is %d, want %d: %s", got, code, &out)
	}
	for _, word := range words {
		if !strings.Contains(out.String(), word) {
			r.Errorf("it does not say %q: %s", word, &out)
		}
	}
}

const tightened = "tickets.operator.invariant.dev: v1alpha1 ^.spec.system: maxLength: maximum decreased : 40 -> 30"

func TestABrokenCRDIsRefusedWithWordsThatSayWhatToDo(t *testing.T) {
	r := newRepository(t)
	r.run("init", "--quiet", "--initial-branch=main")
	r.commit("begin")
	r.wants(0, "", "NOT compared", "these are the first")
	r.bound(30)
	words := []string{"(begin)", tightened, "add a field that may be left out", "hack/compat/accepted.txt"}
	r.wants(1, "", words...)
	r.commit("tighten")
	r.wants(1, "", words...)
	r.wants(0, tightened+" # nobody has longer ones\n", "1 changes that are not are accepted")
	r.bound(40)
	r.wants(0, tightened+"\n", "backward compatible with those of the commit", "(tighten)", "remove it: "+tightened)
}

func TestTheLastReleaseIsWhatIsComparedWith(t *testing.T) {
	r := newRepository(t)
	r.run("init", "--quiet", "--initial-branch=main")
	r.commit("begin")
	r.run("tag", "v0.1.0")
	r.bound(30)
	r.commit("tighten")
	r.commit("do something else")
	r.wants(1, "", "the last release, v0.1.0", tightened)
	r.run("tag", "v0.2.0")
	r.wants(0, "", "the last release, v0.2.0")
}

func TestABranchIsComparedWithWhereItLeftMain(t *testing.T) {
	r := newRepository(t)
	r.run("init", "--quiet", "--initial-branch=main")
	r.commit("begin")
	r.run("checkout", "--quiet", "-b", "branch")
	r.bound(35)
	r.commit("tighten")
	r.bound(30)
	r.commit("tighten more")
	r.wants(1, "", "where this branch left main", tightened)
}

func TestWithoutAHistoryItSaysThatNothingWasCompared(t *testing.T) {
	r := newRepository(t)
	r.wants(0, "", "NOT compared", "no clone with a history")

	r.run("init", "--quiet", "--initial-branch=main")
	r.commit("begin")
	r.bound(30)
	r.commit("tighten")
	shallow := repository{t, clone{history.Clone{Dir: filepath.Join(t.TempDir(), "clone")}}}
	out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", "--depth=1", "file://"+r.Dir, shallow.Dir).CombinedOutput()
	if err != nil {
		t.Fatalf("clone: %v: %s", err, out)
	}
	shallow.wants(0, "", "NOT compared", "git fetch --unshallow --tags")
	shallow.run("fetch", "--quiet", "--unshallow", "--tags")
	shallow.wants(1, "", tightened)
}
