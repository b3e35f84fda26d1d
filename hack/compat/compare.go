package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/crdify/pkg/config"
	"sigs.k8s.io/crdify/pkg/runner"
	"sigs.k8s.io/crdify/pkg/validations"
)

// compareAll compares the CRDs of the same file and returns what is not backward compatible, one line each, in order.
func compareAll(older, newer map[string]*apiextensionsv1.CustomResourceDefinition) ([]string, error) {
	var found []string
	for _, file := range slices.Sorted(maps.Keys(older)) {
		if newer[file] == nil {
			found = append(found, older[file].Name+": the CRD is removed")
			continue
		}
		lines, err := compare(older[file], newer[file])
		if err != nil {
			return nil, err
		}
		found = append(found, lines...)
	}
	return found, nil
}

// compare is what crdify says of two CRDs, and what it does not look at: names, columns, selectable fields, patterns and CEL rules.
func compare(older, newer *apiextensionsv1.CustomResourceDefinition) ([]string, error) {
	older = older.DeepCopy()
	// A file has no status. Any version may be stored somewhere.
	older.Status.StoredVersions = nil
	for _, version := range older.Spec.Versions {
		older.Status.StoredVersions = append(older.Status.StoredVersions, version.Name)
	}
	ofCRD, ofSchema, err := comparators()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, comparator := range ofCRD {
		for _, problem := range comparator.Compare(older, newer).Errors {
			found = append(found, older.Name+": "+problem)
		}
	}
	for _, version := range older.Spec.Versions {
		now := validations.GetCRDVersionByName(newer, version.Name)
		if now == nil {
			continue // said above
		}
		kept := validations.FlattenCRDVersion(*now)
		for path, results := range validations.CompareVersions(version, *now, config.EnforcementPolicyError, ofSchema...) {
			if kept[path] == nil {
				continue // said above
			}
			for _, result := range results {
				for _, problem := range result.Errors {
					found = append(found, fmt.Sprintf("%s: %s %s: %s: %s", older.Name, version.Name, path, result.Name, problem))
				}
			}
		}
	}
	return sorted(found), nil
}

// comparators are crdify's, and behind them ours: crdify hands on to each what none before it has handled.
func comparators() (ofCRD []validations.Comparator[apiextensionsv1.CustomResourceDefinition], ofSchema []validations.Comparator[apiextensionsv1.JSONSchemaProps], err error) {
	registry := runner.DefaultRegistry()
	all, err := validations.LoadValidationsFromRegistry(registry)
	if err != nil {
		return nil, nil, fmt.Errorf("load the validations of crdify: %w", err)
	}
	all, err = validations.ConfigureValidations(all, registry, config.Config{Validations: []config.ValidationConfig{
		{Name: "description", Enforcement: config.EnforcementPolicyNone},
		{Name: "enum", Enforcement: config.EnforcementPolicyError, Configuration: map[string]any{"additionPolicy": "Allow"}},
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("configure crdify: %w", err)
	}
	theirs := slices.Collect(maps.Values(all))
	ofCRD = append(validations.ComparatorsForValidations[apiextensionsv1.CustomResourceDefinition](theirs...), crdComparator(names), crdComparator(served))
	ofSchema = append(validations.ComparatorsForValidations[apiextensionsv1.JSONSchemaProps](theirs...),
		schemaComparator{"pattern", pattern}, schemaComparator{"x-kubernetes-validations", rules}, schemaComparator{"other", other})
	return ofCRD, ofSchema, nil
}

// crdComparator returns what is not compatible in a CRD as a whole.
type crdComparator func(older, newer *apiextensionsv1.CustomResourceDefinition) []string

// Compare implements validations.Comparator.
func (c crdComparator) Compare(older, newer *apiextensionsv1.CustomResourceDefinition) validations.ComparisonResult {
	return validations.ComparisonResult{Errors: c(older, newer)}
}

// schemaComparator returns what is not compatible in a part of a schema, and clears what it has handled.
type schemaComparator struct {
	name    string
	compare func(older, newer *apiextensionsv1.JSONSchemaProps) []string
}

// Compare implements validations.Comparator.
func (c schemaComparator) Compare(older, newer *apiextensionsv1.JSONSchemaProps) validations.ComparisonResult {
	return validations.ComparisonResult{Name: c.name, Errors: c.compare(older, newer)}
}

// names compares what users and manifests call a kind by.
func names(older, newer *apiextensionsv1.CustomResourceDefinition) []string {
	var found []string
	was, is := older.Spec.Names, newer.Spec.Names
	for _, name := range []struct{ of, was, is string }{
		{"group", older.Spec.Group, newer.Spec.Group},
		{"kind", was.Kind, is.Kind},
		{"list kind", was.ListKind, is.ListKind},
		{"plural", was.Plural, is.Plural},
		{"singular", was.Singular, is.Singular},
	} {
		if name.was != name.is {
			found = append(found, fmt.Sprintf("the %s changed: %s -> %s", name.of, name.was, name.is))
		}
	}
	for _, name := range missing(was.ShortNames, is.ShortNames) {
		found = append(found, fmt.Sprintf("the short name %s is removed", name))
	}
	for _, name := range missing(was.Categories, is.Categories) {
		found = append(found, fmt.Sprintf("the category %s is removed", name))
	}
	return found
}

// served compares what the API server makes of each version, beside its schema.
func served(older, newer *apiextensionsv1.CustomResourceDefinition) []string {
	var found []string
	for _, was := range older.Spec.Versions {
		is := validations.GetCRDVersionByName(newer, was.Name)
		if is == nil {
			continue // crdify says so
		}
		if was.Served && !is.Served {
			found = append(found, was.Name+" is no longer served")
		}
		if hasStatus(was) != hasStatus(*is) {
			found = append(found, was.Name+": the subresource status is added or removed: a write goes to one or the other")
		}
		for _, path := range missing(selectable(was), selectable(*is)) {
			found = append(found, fmt.Sprintf("%s: the field selector %s is removed", was.Name, path))
		}
		for _, column := range missing(columns(was), columns(*is)) {
			found = append(found, fmt.Sprintf("%s: the column %s is removed or shows something else", was.Name, column))
		}
	}
	return found
}

func hasStatus(version apiextensionsv1.CustomResourceDefinitionVersion) bool {
	return version.Subresources != nil && version.Subresources.Status != nil
}

func selectable(version apiextensionsv1.CustomResourceDefinitionVersion) []string {
	var paths []string
	for _, field := range version.SelectableFields {
		paths = append(paths, field.JSONPath)
	}
	return paths
}

func columns(version apiextensionsv1.CustomResourceDefinitionVersion) []string {
	var columns []string
	for _, c := range version.AdditionalPrinterColumns {
		columns = append(columns, fmt.Sprintf("%s (%s %s)", c.Name, c.Type, c.JSONPath))
	}
	return columns
}

// pattern finds a new or another pattern: which strings of the old one it refuses, nobody can say.
func pattern(older, newer *apiextensionsv1.JSONSchemaProps) []string {
	was, is := older.Pattern, newer.Pattern
	older.Pattern, newer.Pattern = "", ""
	if is == "" || is == was {
		return nil
	}
	return []string{fmt.Sprintf("changed: %q -> %q", was, is)}
}

// rules finds new CEL rules that bind what is stored already. A rule over oldSelf binds changes alone: it refuses nothing at rest.
func rules(older, newer *apiextensionsv1.JSONSchemaProps) []string {
	known := map[string]bool{}
	for _, rule := range older.XValidations {
		known[ruleKey(rule)] = true
	}
	var found []string
	for _, rule := range newer.XValidations {
		if key := ruleKey(rule); !known[key] && !isTransition(rule) {
			found = append(found, "new rule: "+key)
		}
	}
	older.XValidations, newer.XValidations = nil, nil
	return found
}

var mentionsOldSelf = regexp.MustCompile(`\boldSelf\b`)

func isTransition(rule apiextensionsv1.ValidationRule) bool {
	return mentionsOldSelf.MatchString(rule.Rule) && (rule.OptionalOldSelf == nil || !*rule.OptionalOldSelf)
}

// ruleKey is what a rule checks: its words to the user may change.
func ruleKey(rule apiextensionsv1.ValidationRule) string {
	key := strings.Join(strings.Fields(rule.Rule), " ")
	if rule.OptionalOldSelf != nil && *rule.OptionalOldSelf {
		key += " (optionalOldSelf)"
	}
	return key
}

// other finds any other change of a schema: formats, kinds of lists and what else there may come to be. crdify would show each as a diff
// of Go values over many lines.
func other(older, newer *apiextensionsv1.JSONSchemaProps) []string {
	// What is below is compared by itself.
	if older.AdditionalProperties != nil && newer.AdditionalProperties != nil {
		older.AdditionalProperties, newer.AdditionalProperties = nil, nil
	}
	was, is := fieldsOf(older), fieldsOf(newer)
	*older, *newer = apiextensionsv1.JSONSchemaProps{}, apiextensionsv1.JSONSchemaProps{}
	all := map[string]json.RawMessage{}
	maps.Copy(all, was)
	maps.Copy(all, is)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(was[name], is[name]) {
			found = append(found, fmt.Sprintf("%s changed: %s -> %s", name, orNone(was[name]), orNone(is[name])))
		}
	}
	return found
}

func orNone(value json.RawMessage) string {
	if value == nil {
		return "none"
	}
	return string(value)
}

func fieldsOf(schema *apiextensionsv1.JSONSchemaProps) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	content, err := json.Marshal(schema)
	if err == nil {
		err = json.Unmarshal(content, &fields)
	}
	if err != nil {
		panic(err) // it was parsed from JSON
	}
	return fields
}

// missing are the strings of was that is lacks.
func missing(was, is []string) []string {
	return slices.DeleteFunc(slices.Clone(was), func(s string) bool { return slices.Contains(is, s) })
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
