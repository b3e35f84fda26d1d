package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

// people are those who work on the tickets of a system, each with the API server as kubectl annotate and kubectl patch would.
type people struct {
	stage     *stage
	api       client.Client
	namespace string
	// acted counts what they did, for words that are never used twice.
	acted int
}

func (y *system) people() *people {
	return &people{stage: y.stage, api: y.stage.api, namespace: y.namespace}
}

// worked is how many of the tickets that were written to last people work on.
const worked = 4

// work does something at random to one of the newest tickets, every so often, until the context ends. In the end nobody holds anything.
func (p *people) work(ctx context.Context, every time.Duration) {
	rng := p.stage.fork()
	for wait(ctx, between(rng, every/2, every*3/2)) {
		tickets := p.stage.history.Latest(p.namespace)
		if len(tickets) == 0 {
			continue
		}
		newest := tickets[max(0, len(tickets)-worked):]
		ticket := newest[rng.IntN(len(newest))].Name
		switch n := rng.IntN(20); {
		case n < 6:
			p.do(ctx, ticket, history.Hold)
		case n < 11:
			p.do(ctx, ticket, history.Unhold)
		case n < 14:
			p.do(ctx, ticket, history.Acknowledge)
		case n < 17:
			p.do(ctx, ticket, history.Diagnose)
		case n < 19:
			p.do(ctx, ticket, history.Resolve)
		default:
			p.do(ctx, ticket, history.Delete)
		}
	}
}

// leave ends all holds.
func (p *people) leave(ctx context.Context) {
	for _, v := range p.stage.history.Latest(p.namespace) {
		if v.Ticket.Held() {
			p.do(ctx, v.Name, history.Unhold)
		}
	}
}

// do does something to a ticket, and notes what the API server says.
func (p *people) do(ctx context.Context, ticket string, kind history.ActKind) {
	p.acted++
	word := fmt.Sprintf("%s-%d", kind, p.acted)
	if kind == history.Unhold {
		word = ""
	}
	answer := p.stage.history.Ask(p.namespace, ticket, kind, word, time.Now())
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	answer(p.ask(ctx, ticket, kind, word), time.Now())
}

func (p *people) ask(ctx context.Context, ticket string, kind history.ActKind, word string) error {
	t := &v1alpha1.Ticket{}
	t.Namespace, t.Name = p.namespace, ticket
	const by = "ana"
	switch kind {
	case history.Hold:
		return p.api.Patch(ctx, t, merge(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.HoldAnnotation: word}}}))
	case history.Unhold:
		return p.api.Patch(ctx, t, merge(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.HoldAnnotation: nil}}}))
	case history.Acknowledge:
		return p.status(ctx, t, map[string]any{"state": v1alpha1.Acknowledged, "acknowledgement": map[string]any{"by": by, "note": word}})
	case history.Diagnose:
		return p.status(ctx, t, map[string]any{"state": v1alpha1.Diagnosed, "diagnosis": map[string]any{"by": by, "text": word}})
	case history.Resolve:
		return p.status(ctx, t, map[string]any{"state": v1alpha1.Resolved, "resolution": map[string]any{"by": by, "note": word, "reason": v1alpha1.Manual}})
	case history.Delete:
		return p.api.Delete(ctx, t)
	default:
		return fmt.Errorf("nobody does %q", kind)
	}
}

func (p *people) status(ctx context.Context, t *v1alpha1.Ticket, status map[string]any) error {
	return p.api.Status().Patch(ctx, t, merge(map[string]any{"status": status}))
}

func merge(change map[string]any) client.Patch {
	raw, err := json.Marshal(change)
	if err != nil {
		panic(err)
	}
	return client.RawPatch(types.MergePatchType, raw)
}
