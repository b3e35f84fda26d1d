package history

import (
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

// settle is how long a monitor that is able takes to find something and write it: two intervals, and what the machine takes.
func (a *account) settle(p Policy) time.Duration { return 2*p.Interval + a.Late }

// sees is how long a monitor that is able takes to look at a namespace from some time on. While its writes hang, it looks when those of the
// look before are given up, an interval and the source's timeout after that.
func (a *account) sees(namespace string, p Policy, from time.Time) time.Duration {
	for _, h := range a.hanging[namespace] {
		if h.Start.Before(from.Add(p.Interval)) && h.until(a.now).After(from) {
			return a.settle(p) + p.Timeout
		}
	}
	return a.settle(p)
}

// moments are the true times that a time of a monitor's clock may mean, if it was written by then.
func (a *account) moments(namespace string, at, by time.Time) []time.Time {
	spans := a.clocks[namespace]
	if len(spans) == 0 {
		return []time.Time{at}
	}
	var moments []time.Time
	for _, s := range spans {
		moment := at.Add(-s.offset)
		// A cycle that is under way when the clock is set ends with the time at which it began.
		if s.Start.Before(by) && !moment.Before(s.Start.Add(-a.Early)) && !moment.After(s.until(a.now).Add(a.Late+a.Early)) {
			moments = append(moments, moment)
		}
	}
	return moments
}

// off is how much longer and shorter by true time what is timed from a moment on may last, because the clock of the namespace's
// monitor was set before it was over: by how far it was set, and where it was set back, by what had gone by until then at most.
func (a *account) off(namespace string, from, to time.Time) (longer, shorter time.Duration) {
	gone := time.Duration(0)
	for i, s := range a.clocks[namespace] {
		if i == 0 || !s.Start.After(from.Add(-a.Early)) || !s.Start.Before(to) {
			continue
		}
		if by := s.offset - a.clocks[namespace][i-1].offset; by > 0 {
			shorter += by
		} else {
			longer -= by
			gone = max(0, s.Start.Sub(from))
		}
	}
	return min(longer, gone), shorter
}

// timesSet is how often the clock of a namespace's monitor was set in a stretch of time.
func (a *account) timesSet(namespace string, from, to time.Time) (times int) {
	for i, s := range a.clocks[namespace] {
		if i > 0 && s.Start.After(from.Add(-a.Early)) && s.Start.Before(to) {
			times++
		}
	}
	return times
}

// firstAble is the end of the first stretch from then on, of that length, in which the namespace's monitor was able to look all the time.
func (a *account) firstAble(namespace string, from time.Time, length time.Duration) (time.Time, bool) {
	return a.firstStretch(a.able[namespace], from, length)
}

// firstWriting is the same, of the stretches in which nothing hindered its writes either.
func (a *account) firstWriting(namespace string, from time.Time, length time.Duration) (time.Time, bool) {
	return a.firstStretch(a.without(a.able[namespace], a.hindered[namespace]), from, length)
}

// firstSeeing is the same, of the stretches in which the source of a store could be read too.
func (a *account) firstSeeing(k key, from time.Time, length time.Duration) (time.Time, bool) {
	able := a.able[k.Namespace]
	if k.Reason == v1alpha1.Violated {
		for _, silence := range a.faults[sourceOf(k)] {
			able = a.without(able, []*Span{&silence.Possible})
		}
	}
	return a.firstStretch(able, from, length)
}

// sourceOf is the key of not being able to read the source of a store.
func sourceOf(k key) key {
	return key{Place{Namespace: k.Namespace, Invariant: k.Invariant}, v1alpha1.Unobservable}
}

// without is what some spans leave of others.
func (a *account) without(spans, cuts []*Span) []*Span {
	for _, cut := range cuts {
		var left []*Span
		for _, s := range spans {
			end := s.until(a.now)
			if cut.Start.After(s.Start) {
				left = append(left, &Span{s.Start, earlier(cut.Start, end)})
			}
			if until := cut.until(a.now); until.Before(end) {
				left = append(left, &Span{later(until, s.Start), end})
			}
		}
		spans = left
	}
	return spans
}

// underWay is when a write that was noticed at some time may have been decided, which takes so long at most; while writes were hindered,
// it may have been under way.
func (a *account) underWay(namespace string, at time.Time, atMost time.Duration) time.Time {
	since := at.Add(-atMost)
	for _, h := range slices.Backward(a.hindered[namespace]) {
		if h.Start.Before(at) && h.until(a.now).After(since) {
			since = earlier(since, h.Start.Add(-atMost))
		}
	}
	return since
}

// sent is when a ticket that was noticed at some time was sent to be created, if that may have arrived late.
func (a *account) sent(namespace string, at time.Time) time.Time {
	sent := at
	for _, d := range a.delayed[namespace] {
		if !at.Before(d.End) && at.Before(d.End.Add(a.Late)) {
			sent = earlier(sent, d.Start)
		}
	}
	return sent
}

func (a *account) firstStretch(spans []*Span, from time.Time, length time.Duration) (time.Time, bool) {
	for _, s := range spans {
		if start := later(s.Start, from); s.until(a.now).Sub(start) >= length {
			return start.Add(length), true
		}
	}
	return time.Time{}, false
}

func earlier(x, y time.Time) time.Time {
	if x.Before(y) {
		return x
	}
	return y
}

func later(x, y time.Time) time.Time {
	if x.Before(y) {
		return y
	}
	return x
}

// starts is how many monitors were first able to check a namespace in a stretch of time.
func (a *account) starts(namespace string, from, to time.Time) (n int32) {
	for _, s := range a.able[namespace] {
		if s.Start.After(from) && s.Start.Before(to.Add(a.Early)) {
			n++
		}
	}
	return n
}
