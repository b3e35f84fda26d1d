package cli

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Item is an object as the API server sent it, with what a newer version may have added, and as Go reads it.
type Item[T Object] struct {
	unstructured.Unstructured
	// Read has only a namespace, a name and a creation time if Go cannot read the object.
	Read T
}

// Sort reads what the API server sent and puts it in the order of compare. compare also gets what has only metadata.
func (k Kind[T]) Sort(sent []unstructured.Unstructured, compare func(a, b T) int) []Item[T] {
	items := make([]Item[T], 0, len(sent))
	for i := range sent {
		read, err := k.Decode(&sent[i])
		if err != nil {
			read = k.empty()
			read.SetNamespace(sent[i].GetNamespace())
			read.SetName(sent[i].GetName())
			read.SetCreationTimestamp(sent[i].GetCreationTimestamp())
		}
		items = append(items, Item[T]{sent[i], read})
	}
	slices.SortFunc(items, func(a, b Item[T]) int { return compare(a.Read, b.Read) })
	return items
}
