package main

const (
	controllers = "./controllers"
	ledger      = "./controllers/ledger"

	recordFile = "controllers/record.go"
	assessFile = "controllers/ledger/assess.go"
	lineFile   = "controllers/ledger/line.go"

	// never takes the place of a condition.
	never = "if false {"
)

// Rules that several guards keep.
const (
	truth     = "1. Three-valued truth"
	oneTicket = "3. One open ticket per violation key"
	hold      = "5. A hold is a promise"
	crash     = "8. A crash costs nothing"
	flapping  = "9. Flapping is noted"
)

// guards are those that are removed, in the order of the rules.
var guards = []guard{
	{
		name: "a source that fails is Unknown", rule: truth,
		file: assessFile, old: "if invariant.Judgement.Fault != nil {\n\t\ta.nothingSeen()", without: "if false {\n\t\ta.nothingSeen()",
		pkg: ledger, test: "NoHistory",
	},
	{
		name: "what is Unknown clears nothing", rule: truth,
		file: "controllers/ledger/book.go", old: "default:\n\t\tl.unknown(b.cycle)\n\t}\n}\n\n// clearDeleted", without: "default:\n\t\tl.satisfied(b.cycle, resolveAfter)\n\t}\n}\n\n// clearDeleted",
		pkg: ledger, test: "NoHistory",
	},
	{
		name: "the live read before opening", rule: oneTicket,
		file: recordFile, old: "live := len(plan.Open) == 0", without: "live := true",
		pkg: controllers, test: "Model",
	},
	{
		name: "the deterministic name", rule: oneTicket,
		file: recordFile, old: "key, number := r.scope.key, r.number+1;", without: "key, number := r.scope.key, r.number+1+int(r.reconciler.Clock.Now().UnixNano()%1000)+len(r.reconciler.Monitor)*int(r.reconciler.Monitor[len(r.reconciler.Monitor)-1]);",
		pkg: controllers, test: "Rule3TwoMonitors",
	},
	{
		name: "a name that is taken is decided anew", rule: oneTicket,
		file: recordFile, old: "\t\t\treturn nil, errConflict", without: "\t\t\treturn taken, nil",
		pkg: controllers, test: "Rule3|NameThatIsTaken|Rule8",
	},
	{
		name: "the numbers are read before the open tickets", rule: oneTicket,
		file: recordFile, old: "names.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(\"TicketList\"))", without: "defer func() { _ = reader.List(ctx, &names, client.InNamespace(key.Namespace)); for _, t := range names.Items { r.number = max(r.number, v1alpha1.TicketNumber(key.Name, t.Name)) } }()\n\tnames.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(\"TicketList\"))",
		pkg: controllers, test: "Model",
	},
	{
		name: "the older of two tickets with one key holds it", rule: oneTicket,
		file: "controllers/ledger/book.go", old: "l.clear(b.cycle.Now, v1alpha1.Duplicate)\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\tb.held", without: "continue\n\t\t\t}\n\t\t\tb.held",
		pkg: controllers, test: "Rule3ATicketOpenedTwice",
	},
	{
		name: "nothing is dropped from a large batch", rule: oneTicket,
		file: "controllers/ledger/batch.go", old: "return append(parts, part)", without: "return append(parts, part)[:1]",
		pkg: ledger, test: "Rule3ABatch",
	},
	{
		name: "what a resolve by hand left violated keeps its age", rule: "4. No cooldown",
		file: "controllers/ledger/ledger.go", old: "return slices.ContainsFunc(entriesOf(t), func(e v1alpha1.ViolationStatus) bool { return e.Active && !e.Pending })", without: "return false",
		pkg: controllers, test: "Rule4|Manual|ByHand",
	},
	{
		name: "a held ticket is not resolved", rule: hold,
		file: "controllers/ledger/page.go", old: "over && !p.ticket.Held()", without: "over",
		pkg: ledger, test: "NoHistory",
	},
	{
		name: "the precondition on what the monitor writes", rule: "5. A hold is a promise; 6. A person's words survive",
		file: recordFile, old: "client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})", without: "client.MergeFrom(before)",
		pkg: controllers, test: "Rule5|Rule6",
	},
	{
		name: "a conflict is decided anew", rule: "6. A person's words survive",
		file: recordFile, old: "if !errors.Is(err, errConflict) || attempt == maxAttempts {", without: "if !errors.Is(err, errConflict) || attempt == 1 {",
		pkg: controllers, test: "Rule5|Rule6",
	},
	{
		name: "what is in its grace period is in the status", rule: crash,
		file: "controllers/ledger/memory.go", old: "for _, group := range status.Pending {", without: "for _, group := range status.Pending[:0] {",
		pkg: controllers, test: "Rule8",
	},
	{
		name: "tickets are written before Invariants", rule: crash,
		file: "controllers/cycle_controller.go", old: "\tmemory, err := recorder.record(ctx)\n\ts.memory, decided = memory, true\n", without: "\ts.memory = ledger.Decide(c, s.memory, s.tickets).Memory\n\tr.report(s, c, results, fresh)\n\tr.writeReports(ctx, log, s)\n\tmemory, err := recorder.record(ctx)\n\ts.memory, decided = memory, true\n",
		pkg: controllers, test: "Rule8|Model",
	},
	{
		name: "a missing entry counts as seen once", rule: crash,
		file: lineFile, old: "Reason: v.Reason, Active: true, Pending: v.Pending}", without: "Reason: v.Reason, Active: false, Pending: v.Pending}",
		pkg: controllers, test: "Rule8",
	},
	{
		name: "an old observation writes nothing", rule: crash,
		file: "controllers/freshness.go", old: "if f.left() < 0 {", without: "if f.left() < -1000*time.Hour {",
		pkg: controllers, test: "Model",
	},
	{
		name: "the first cycle of a monitor writes every open ticket", rule: crash,
		file: "controllers/ledger/page.go", old: "\ts.Monitor = c.Monitor\n", without: "",
		pkg: controllers, test: "LeaderThatWakesUp",
	},
	{
		name: "what a deleted ticket knew is remembered", rule: crash,
		file: recordFile, old: "ledger.Restore(r.scope.memory, ticket)", without: "",
		pkg: controllers, test: "ATicketThatAPersonDeletes",
	},
	{
		name: "what a deleted ticket knew is what the last cycle wrote", rule: crash,
		file: recordFile, old: "r.left(u.Ticket, u.Status)", without: "",
		pkg: controllers, test: "ADeletedTicket",
	},
	{
		name: "a grace period that a crash left in a ticket goes on", rule: crash,
		file: assessFile, old: "\ta.pending()\n\tif invariant", without: "\tif invariant",
		pkg: ledger, test: "CrashLeftInATicketAlone",
	},
	{
		name: "the times of a clock that ran ahead in a ticket hold nothing up", rule: crash,
		file: assessFile, old: "known = known.notAfter(a.now)", without: "",
		pkg: ledger, test: "ClockThatRanAhead",
	},
	{
		name: "a clock that is set back ends no checks", rule: "2. One cycle, one look",
		file: "controllers/scope.go", old: "now = now.Round(0)", without: "",
		pkg: controllers, test: "WallClock",
	},
	{
		name: "a deleted Invariant ends what is Unknown", rule: hold,
		file: lineFile, old: "if awaited(l.entry) {", without: "if l.entry.Active {",
		pkg: ledger, test: "InvariantIsDeleted",
	},
	{
		name: "the rest of a batch has its batch key", rule: oneTicket,
		file: recordFile, old: "cmp.Or(r.batchKey, r.scope.unfinished)", without: "cmp.Or(r.batchKey)",
		pkg: controllers, test: "CouldNotOpen",
	},
	{
		name: "only the API server says that an Invariant was deleted", rule: crash,
		file: "controllers/scope.go", old: "s.confirmed[name] = err != nil || there[name]", without: "s.confirmed[name] = err != nil && there[name]",
		pkg: controllers, test: "LaggingCache",
	},
	{
		name: "a cycle that fails is run again", rule: crash,
		file: "controllers/cycle_controller.go", old: "result = reconcile.Result{RequeueAfter: r.Interval}\n\t\t}", without: "result = reconcile.Result{}\n\t\t}",
		pkg: controllers, test: "Panics",
	},
	{
		name: "what came back and could not be written is remembered", rule: crash,
		file: recordFile, old: "if err != nil && !r.written[update.Ticket.Name] {", without: never,
		pkg: controllers, test: "WhatCameBack",
	},
	{
		name: "what a ticket knew that is deleted under a cycle is remembered", rule: crash,
		file: recordFile, old: "if ticket != nil && !there[ticket.Name] {", without: never,
		pkg: controllers, test: "Model",
	},
	{
		name: "what is seen too late to be written is remembered", rule: crash,
		file: "controllers/cycle_controller.go", old: "s.memory, decided = recorder.remember(), true", without: "",
		pkg: controllers, test: "TooLateToBeWritten",
	},
	{
		name: "a look that is too old is not reported", rule: crash,
		file: "controllers/report.go", old: "if u.fresh.check() != nil {", without: never,
		pkg: controllers, test: "PausedAfterItOpened",
	},
	{
		name: "reads that fail keep nothing from being written", rule: crash,
		file: recordFile, old: "if err != nil && !live {", without: never,
		pkg: controllers, test: "WhileNothingCanBeRead",
	},
	{
		name: "only who has the lease gives it up", rule: crash,
		file: "cmd/operator/lease.go", old: "if record.HolderIdentity == \"\" && l.holder != l.Identity() {", without: never,
		pkg: "./cmd/operator", test: "Lease|Leader",
	},
	{
		name: "a leader that reads that another leads stops", rule: crash,
		file: "cmd/operator/lease.go", old: "if me := l.Identity(); l.holder == me && record.HolderIdentity != me && record.HolderIdentity != \"\" {", without: never,
		pkg: "./test", test: "AnotherLeads",
	},
	{
		name: "a recurrence within a window flaps", rule: flapping,
		file: lineFile, old: "e.RecurredTimes = remember(e.RecurredTimes, c.Now)", without: "",
		pkg: ledger, test: "Rule9",
	},
	{
		name: "a cycle counts once", rule: flapping,
		file: lineFile, old: "later >= 0 && later <= c.Overlap {", without: "later > 0 && later < 0 {",
		pkg: controllers, test: "DecidedAnewCounts",
	},
	{
		name: "a system's newest ticket stays", rule: oneTicket,
		file: "controllers/retention.go", old: "if isNewest {", without: "if isNewest && false {",
		pkg: controllers, test: "Newest|Retention|Removed",
	},
	{
		name: "a hold keeps a resolved ticket", rule: hold,
		file: "controllers/ledger/tend.go", old: "if t.IsOpen() || t.Held() || Unsettled(t) {", without: "if t.IsOpen() || Unsettled(t) {",
		pkg: controllers, test: "Newest|Retention|Removed|Kept",
	},
	{
		name: "a ticket is removed only as it was read", rule: hold,
		file: "controllers/retention.go", old: "client.Preconditions{UID: &ticket.UID, ResourceVersion: &ticket.ResourceVersion}", without: "client.Preconditions{}",
		pkg: controllers, test: "Newest|Retention|Removed|Kept|Hold",
	},
	{
		name: "evidence leaves time to open the ticket", rule: "10. Bounded",
		file: recordFile, old: "min(evidenceTime, r.fresh.left()/2)", without: "evidenceTime",
		pkg: controllers, test: "EvidenceThatIsSlow",
	},
	{
		name: "a system's reports leave others their turn", rule: "2. One cycle, one look",
		file: "controllers/report.go", old: "if r.Clock.Since(began) >= reportTime {", without: "if r.Clock.Since(began) >= 1000*reportTime {",
		pkg: controllers, test: "ReportsOfOne",
	},
	{
		name: "a namespace has its share of the workers", rule: "2. One cycle, one look",
		file: "controllers/cycle_controller.go", old: "if !r.turns.begin(request.Namespace, r.Workers) {", without: "if r.turns.begin(request.Namespace, r.Workers*1000); false {",
		pkg: controllers, test: "NamespaceThatIsHostile",
	},
	{
		name: "what is unobservable stays so while a store is unknown", rule: truth,
		file: assessFile, old: "a.invariant.Judgement.Fault != nil || len(stores) > 0:", without: "a.invariant.Judgement.Fault != nil:",
		pkg: ledger, test: "Observable",
	},
	{
		name: "who opens next takes the number of a ticket that was deleted", rule: oneTicket,
		file: recordFile, old: "r.number = 0\n", without: "",
		pkg: controllers, test: "TestModel|PersonDeletes",
	},
	{
		name: "what was deleted while the tickets were read makes them be read again", rule: oneTicket,
		file: recordFile, old: "if gone || changed {", without: "if gone && !gone && changed {",
		pkg: controllers, test: "TestModel",
	},
	{
		name: "what begins to count and cannot be written is remembered", rule: crash,
		file: "controllers/ledger/ledger.go", old: "counts(e) || !counts(updated[i]) {",
		without: "counts(e) || !counts(updated[i]) || !slices.Contains(u.Recurred, Key{e.Invariant, e.StoreID, e.Reason}) {",
		pkg:     controllers, test: "BeginsToCount",
	},
	{
		name: "what was resolved under the cycle's hands is seen, whoever opened it", rule: crash,
		file: recordFile, old: "return !ledger.Unsettled(t) })...)", without: "return !ledger.Unsettled(t) || true })...)",
		pkg: controllers, test: "ResolvedAtOnce",
	},
	{
		name: "an older look changes nothing that a later one wrote", rule: truth,
		file: lineFile, old: "if l.overtaken(c) {\n\t\treturn\n\t}\n\te, now", without: never + "\n\t\treturn\n\t}\n\te, now",
		pkg: ledger, test: "Older",
	},
	{
		name: "an older look makes nothing count that a later one found well", rule: oneTicket,
		file: "controllers/ledger/book.go", old: "if l.overtaken(b.cycle) {\n\t\treturn false", without: never + "\n\t\treturn false",
		pkg: ledger, test: "MakesNothingCount",
	},
	{
		name: "an older look opens nothing that a later one found cleared", rule: oneTicket,
		file: recordFile, old: "plan.Open = r.cycle.WithoutOvertaken(plan.Open, r.history)\n", without: "",
		pkg: controllers, test: "TestModel",
	},
	{
		name: "a grace period goes on though memory knows of a time before", rule: crash,
		file: assessFile, old: "if !remembered.FirstSeen.IsZero() {", without: "if remembered != (Timer{}) {",
		pkg: ledger, test: "ThoughMemoryKnows",
	},
	{
		name: "a step that could not be written is found once more", rule: crash,
		file: "controllers/scope.go", old: "check.past.KeepBefore(check.before, missing)", without: "_ = missing",
		pkg: controllers, test: "AStepThat",
	},
	{
		name: "a muted Invariant opens nothing", rule: "13. Planned work is muted",
		file: assessFile, old: "if v.Truth != verdict.Violated || a.invariant.Muted {", without: "if v.Truth != verdict.Violated {",
		pkg: controllers, test: "Rule13",
	},
}
