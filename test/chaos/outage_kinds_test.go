package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/chaos/gate"
)

// outage is a way in which the API server can be away.
type outage struct {
	name string
	// one: it can be for one namespace only.
	one bool
	// free: all can be written all the time.
	free bool
	// counts: the tickets that are open can be written.
	counts bool
	// conflicts: each cycle decides anew as often as it may.
	conflicts bool
	// hangs: what is sent may hang.
	hangs bool
	// lease: a leader cannot renew its lease.
	lease bool
	begin func(*outages, scope) (end func())
}

// scope tells which requests an outage is for.
type scope func(*http.Request) bool

// kinds are all outages.
var kinds = []outage{
	{name: "writes get 429", one: true, lease: true, begin: refuse(isWrite, status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests))},
	{name: "writes get 429 with Retry-After", one: true, lease: true, begin: refuseForAWhile},
	{name: "writes get 503", one: true, lease: true, begin: refuse(isWrite, status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable))},
	{name: "writes get 500", one: true, lease: true, begin: refuse(isWrite, status(http.StatusInternalServerError, metav1.StatusReasonInternalError))},
	{name: "writes of statuses get 409", one: true, conflicts: true, begin: refuse(isStatusWrite, status(http.StatusConflict, metav1.StatusReasonConflict))},
	{name: "somebody is always faster", one: true, conflicts: true, begin: beFaster},
	{name: "all takes 2 s", hangs: true, one: true, begin: delay},
	{name: "reads get 503", one: true, lease: true, begin: refuse(isRead, status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable))},
	{name: "lists get 503", one: true, begin: refuse(isList, status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable))},
	{name: "a quota refuses new tickets", one: true, counts: true, begin: refuse(isCreation, status(http.StatusForbidden, metav1.StatusReasonForbidden))},
	{name: "an admission policy refuses new tickets", one: true, counts: true, begin: refuse(isCreation, status(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid))},
	{name: "watches end with 410", free: true, begin: refuse(isWatchFromVersion, gone)},
	{name: "nothing passes", hangs: true, lease: true, begin: cut},
	{name: "history is lost", lease: true, begin: loseHistory},
	{name: "API server killed", lease: true, begin: restart((*controlplane.ControlPlane).KillAPIServer, (*controlplane.ControlPlane).StartAPIServer)},
	{name: "API server restarted", lease: true, begin: restart((*controlplane.ControlPlane).StopAPIServer, (*controlplane.ControlPlane).StartAPIServer)},
	{name: "API server hangs", hangs: true, lease: true, begin: restart((*controlplane.ControlPlane).PauseAPIServer, func(c *controlplane.ControlPlane, _ context.Context) error { return c.ResumeAPIServer() })},
	{name: "etcd killed", hangs: true, lease: true, begin: restart((*controlplane.ControlPlane).KillEtcd, (*controlplane.ControlPlane).StartEtcd)},
}

// refuse answers what a scope has of some requests.
func refuse(which scope, answer http.HandlerFunc) func(*outages, scope) func() {
	return func(o *outages, within scope) func() {
		o.monitor.gate.Disturb(func(r *http.Request) *gate.Disturbance {
			if !which(r) || !within(r) {
				return nil
			}
			return &gate.Disturbance{Answer: answer}
		})
		if which(&http.Request{Method: http.MethodGet, URL: watchURL}) {
			o.monitor.gate.Sever()
		}
		return func() { o.monitor.gate.Disturb(nil) }
	}
}

// refuseForAWhile says when to come again, and wants that nobody comes before.
func refuseForAWhile(o *outages, within scope) func() {
	const seconds = 2
	refused := map[string]time.Time{}
	early := 0
	answer := status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	o.monitor.gate.Disturb(func(r *http.Request) *gate.Disturbance {
		if !isWrite(r) || !within(r) {
			return nil
		}
		what := r.Method + " " + r.URL.Path
		// What comes at the same moment was under way.
		if since := time.Since(refused[what]); since > 50*time.Millisecond && since < seconds*time.Second-50*time.Millisecond {
			early++
			o.Logf("%s came again %s after it was told to wait for %d s", what, since, seconds)
		}
		refused[what] = time.Now()
		return &gate.Disturbance{Answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", fmt.Sprint(seconds))
			answer(w, r)
		}}
	})
	return func() {
		o.monitor.gate.Disturb(nil)
		if early > 0 {
			o.Errorf("Retry-After was not respected %d times", early)
		}
	}
}

// beFaster writes to each ticket right before the monitor does.
func beFaster(o *outages, within scope) func() {
	n := 0
	o.monitor.gate.Disturb(func(r *http.Request) *gate.Disturbance {
		if !isStatusWrite(r) || !within(r) {
			return nil
		}
		n++
		rival := n
		return &gate.Disturbance{Before: func() {
			parts := strings.Split(r.URL.Path, "/")
			t := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: parts[5], Name: parts[7]}}
			_ = o.api.Patch(o.ctx, t, merge(map[string]any{"metadata": map[string]any{"annotations": map[string]any{"rival": fmt.Sprint(rival)}}}))
		}}
	})
	return func() { o.monitor.gate.Disturb(nil) }
}

func delay(o *outages, within scope) func() {
	o.monitor.gate.Disturb(func(r *http.Request) *gate.Disturbance {
		if isWatch(r) || !within(r) {
			return nil
		}
		return &gate.Disturbance{Delay: 2 * time.Second}
	})
	return func() { o.monitor.gate.Disturb(nil) }
}

func cut(o *outages, _ scope) func() {
	o.monitor.gate.Cut()
	return o.monitor.gate.Mend
}

// loseHistory lets no watch go on where it was: what it missed is in no history any more.
func loseHistory(o *outages, within scope) func() {
	allow := refuse(isWatch, status(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable))(o, within)
	return func() {
		must(o, o.plane.KillAPIServer())
		read := int64(0)
		for _, v := range o.history.Latest("") {
			read = max(read, v.Revision)
		}
		_, err := o.recorder.Etcd.Compact(o.ctx, read)
		if err != nil {
			o.Error(err)
		}
		must(o, o.plane.StartAPIServer(o.ctx))
		allow()
	}
}

func restart(stop func(*controlplane.ControlPlane) error, start func(*controlplane.ControlPlane, context.Context) error) func(*outages, scope) func() {
	return func(o *outages, _ scope) func() {
		must(o, stop(o.plane))
		return func() { must(o, start(o.plane, o.ctx)) }
	}
}

var watchURL = must1(http.NewRequest(http.MethodGet, "/?watch=true", nil)).URL

func must1[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func isWrite(r *http.Request) bool { return r.Method != http.MethodGet }

func isStatusWrite(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/tickets/") && strings.HasSuffix(r.URL.Path, "/status")
}

func isCreation(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tickets")
}

func isWatch(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Get("watch") != ""
}

// isWatchFromVersion leaves out the watch that begins with a list.
func isWatchFromVersion(r *http.Request) bool {
	return isWatch(r) && r.URL.Query().Get("sendInitialEvents") == ""
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet && !isWatch(r) }

func isList(r *http.Request) bool {
	return isRead(r) && (strings.HasSuffix(r.URL.Path, "/tickets") || strings.HasSuffix(r.URL.Path, "/invariants"))
}

// status answers as the API server does that refuses something.
func status(code int, reason metav1.StatusReason) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"an outage"}`, reason, code)
	}
}

// gone answers as the API server does whose history does not go back so far.
func gone(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}}`+"\n")
}
