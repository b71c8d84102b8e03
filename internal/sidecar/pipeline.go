package sidecar

import (
	"time"

	"go.uber.org/zap"

	"pgevict/internal/config"
	"pgevict/internal/history"
	"pgevict/internal/status"
	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// pipeline is the whole program: a change becomes targets, and targets join the set. It is the handler of the listener.
type pipeline struct {
	rules   *rules.Set
	queue   *invalidate.Queue
	gap     config.Gap
	renew   func() // has refreshes read on new connections
	metrics *status.Metrics
	log     *zap.Logger
	doubts  allowances

	// Room for one change, since they come by the million.
	rows    []rules.Row
	targets []rules.Target
}

func (p *pipeline) Change(c pgnotify.Change) {
	p.targets = p.targets[:0]
	var change rules.Change
	change, p.rows = history.ToRules(c, p.rows[:0])
	for t, widened := range p.rules.Match(change) {
		p.targets = append(p.targets, t)
		p.metrics.Target(t, widened)
	}
	p.metrics.Change(c)
	p.queue.Add(p.targets...)
	if entry := p.log.Check(zap.DebugLevel, "change"); entry != nil {
		entry.Write(p.changeFields(c)...)
	}
}

// loggedTargets is how many targets of one change are logged.
const loggedTargets = 20

// changeFields is a change for the log, with some of its targets. The log drops lines rather than hold up the listener.
func (p *pipeline) changeFields(c pgnotify.Change) []zap.Field {
	x := history.Explain(p.rules, c)
	return []zap.Field{
		zap.String("table", x.Table), zap.String("schema", x.Schema), zap.String("op", x.Op), zap.String("source", string(x.Source)),
		zap.Int("rows", x.Rows), zap.Int("count", len(x.Targets)), zap.Any("targets", x.Targets[:min(len(x.Targets), loggedTargets)]),
	}
}

func (p *pipeline) Gap(reason string, tables ...pgnotify.Table) {
	p.metrics.Gap(reason)
	concerned := make([]rules.Table, len(tables))
	for i, t := range tables {
		concerned[i] = rules.Table(t)
	}
	fields := []zap.Field{zap.String("gap", reason)}
	if len(tables) > 0 {
		fields = append(fields, zap.Stringers("tables", tables))
	} else {
		p.renew() // the listener may be on another server than before
	}
	wait, covered := time.Duration(0), false
	if p.gap == config.GapSweep && canBeRaisedByOthers(reason) {
		wait, covered = p.doubts.claim(reason, time.Now())
	}
	switch {
	case p.gap == config.GapIgnore:
		p.log.Info("changes may have been missed, and PGEVICT_GAP says to ignore it", fields...)
		return
	case covered:
		p.metrics.SweepDeferred(reason)
		return // by the sweep that waits
	case wait > 0:
		p.metrics.SweepDeferred(reason)
		p.log.Warn("changes may have been missed, as was said again and again: sweeping every key of the rules later",
			append(fields, zap.Duration("after", wait.Round(time.Second)))...)
		p.queue.SweepLater(wait, p.rules.Sweep()...)
		return
	case len(tables) > 0:
		p.log.Info("changes may have been missed: sweeping every key of the tables that it concerns", fields...)
	default:
		p.log.Info("changes may have been missed: sweeping every key of the rules", fields...)
	}
	p.queue.Sweep(p.rules.Sweep(concerned...)...)
}

// canBeRaisedByOthers reports whether somebody who may write to Redis, or a server that ends each idle connection, can have
// such a gap found again and again. A process that names itself as another one is none of these.
func canBeRaisedByOthers(reason string) bool {
	return reason == invalidate.GapRollback || reason == invalidate.GapUnknown
}

// Swept is told when every sweep that was under way has been done.
func (p *pipeline) Swept() {
	took, keys := p.metrics.Swept()
	p.log.Info("swept", zap.Int64("keys", keys), zap.Float64("seconds", took.Seconds()))
}

func (p *pipeline) Mark(m pgnotify.Mark) {
	p.queue.Mark(invalidate.Mark{Position: m.Position, Sent: m.Sent})
}

// listener hears what the configuration says, for the tables of the rules.
func listener(c config.Config, set *rules.Set, observer pgnotify.Observer, log *zap.Logger) *pgnotify.Listener {
	channels := map[string]pgnotify.Source{}
	for _, name := range c.TCNChannels {
		channels[name] = pgnotify.TCN
	}
	for _, name := range c.EventsChannels {
		channels[name] = pgnotify.Events
	}
	return &pgnotify.Listener{
		Config:    c.PostgresConfig,
		Channels:  channels,
		Tables:    set.TableNames(),
		Columns:   set.Columns,
		Heartbeat: c.Heartbeat,
		Observer:  observer,
		Log:       log,
	}
}
