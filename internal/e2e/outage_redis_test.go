package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
)

// appendOnly has Redis write a file of each command, and never anew.
var appendOnly = []string{"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"}

// appended is that file.
func (o *outageTest) appended() (path string, size int64) {
	o.Helper()
	files, err := filepath.Glob(filepath.Join(o.redis.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		o.Fatalf("append-only files: %q, %v", files, err)
	}
	info, err := os.Stat(files[0])
	o.must(err)
	return files[0], info.Size()
}

// refusals is how often Redis has refused something, or not answered.
func (o *outageTest) refusals(kind string) float64 {
	return o.sidecar.metric(`pgevict_redis_errors_total{kind="` + kind + `"}`)
}

// waitRefused waits until that has happened once more.
func (o *outageTest) waitRefused(kind string, before float64) {
	o.Helper()
	eventually(o, "an error "+kind, func() bool { return o.refusals(kind) > before })
}

// evicted is how many keys have been deleted.
func (o *outageTest) evicted() float64 {
	return o.sidecar.metric(`pgevict_evicted_total{rule="actions"}`)
}

// waitEvicted waits until more keys have been deleted.
func (o *outageTest) waitEvicted(before float64) {
	o.Helper()
	eventually(o, "keys are deleted", func() bool { return o.evicted() >= before+10 })
}

// configure sets parameters of Redis.
func (o *outageTest) configure(parameter, value string) {
	o.Helper()
	o.must(o.cache.ConfigSet(o.Context(), parameter, value).Err())
}

// hangUp has Redis end the sidecar's connections.
func (o *outageTest) hangUp() {
	o.Helper()
	clients, err := o.cache.ClientList(o.Context()).Result()
	o.must(err)
	for line := range strings.Lines(clients) {
		if id, _, ok := strings.Cut(strings.TrimPrefix(line, "id="), " "); ok && strings.Contains(line, " name=pgevict ") {
			_ = o.cache.ClientKillByFilter(o.Context(), "ID", id) // which may be gone
		}
	}
}

// anEvictor is one server, and a user of it for the sidecar alone.
func anEvictor(w *world) (url string) {
	url = w.oneRedis()
	w.evictor("on", ">s3cr3t", "~*", "+@all")
	return strings.Replace(url, "redis://", "redis://evictor:s3cr3t@", 1)
}

// redisOutages are those of one Redis that answers, but not as it should, or with what it had before.
var redisOutages = []outage{{
	// As after a power cut: what was not on the disk is lost, and the last command is cut short.
	name: "Redis loses the end of its append-only file", gaps: []string{"redis_restart", "redis_rollback"}, redisArgs: appendOnly,
	strike: func(o *outageTest) {
		path, size := o.appended()
		o.outdate()
		o.must(o.redis.Kill())
		o.must(os.Truncate(path, size-3))
		o.write100()
		o.must(o.redis.Start(appendOnly...))
		o.work()
	},
}, {
	name: "Redis loads an old snapshot for seconds", gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		o.save()
		o.must(o.redis.Kill())
		loading := o.refusals("loading")
		o.must(o.redis.Start("--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")) // waits until it has loaded
		if o.refusals("loading") == loading {
			o.Error("nothing was refused while it loaded, so this shows little")
		}
		o.work()
	},
}, {
	name: "Redis is a replica for a while", calm: true,
	strike: func(o *outageTest) {
		o.must(o.cache.ReplicaOf(o.Context(), "127.0.0.1", "1").Err())
		o.write100()
		o.waitRefused("readonly", o.refusals("readonly"))
		o.window.Add(1)
		o.write100()
		o.must(o.cache.ReplicaOf(o.Context(), "NO", "ONE").Err())
		o.work()
	},
}, {
	name: "Redis is full for a while", calm: true,
	strike: func(o *outageTest) {
		evicted := o.evicted()
		o.configure("maxmemory", "1") // what is cached goes, and nothing comes
		o.waitRefused("oom", o.refusals("oom"))
		o.waitEvicted(evicted)
		o.waitRefused("oom", o.refusals("oom"))
		o.window.Add(1)
		o.write100()
		o.configure("maxmemory", "0")
		o.work()
	},
}, {
	name: "Redis wants a password for a while", calm: true,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.configure("requirepass", cachePassword)
		o.hangUp()
		o.miss()
		o.waitRefused("noauth", o.refusals("noauth"))
		o.sidecar.said(n, "NOAUTH")
		o.configure("requirepass", "")
	},
}, {
	name: "Redis forbids keys for a while", calm: true, servers: anEvictor,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.evictor("resetkeys", "~action*", "~owner:*", "~profile*", "~email:*", "~tag:*", "~view:*", "~pgevict:*")
		o.miss()
		o.waitRefused("noperm", o.refusals("noperm"))
		o.waitEvicted(o.evicted())
		o.sidecar.said(n, "NOPERM", `rule \"members\"`)
		o.window.Add(1)
		o.write100()
		o.evictor("allkeys")
	},
}, {
	name: "Redis forbids a command for a while", calm: true, servers: anEvictor,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.evictor("-srandmember")
		o.miss()
		o.waitRefused("noperm", o.refusals("noperm"))
		o.waitEvicted(o.evicted())
		o.sidecar.said(n, "noperm", `rule \"views\"`)
		o.evictor("+srandmember")
	},
}, {
	name: "Redis pauses its clients", calm: true,
	strike: func(o *outageTest) {
		for _, which := range []string{"WRITE", "ALL"} { // longer than the sidecar's timeout
			before := o.refusals("timeout")
			o.must(o.cache.Do(o.Context(), "CLIENT", "PAUSE", 3*heartbeat.Milliseconds(), which).Err())
			o.write100()
			o.waitRefused("timeout", before)
			o.work()
			o.window.Add(1)
		}
	},
}, {
	name: "Redis is slow", calm: true, redisArgs: []string{"--enable-debug-command", "yes"},
	strike: func(o *outageTest) {
		for range 3 { // now and then for longer than the sidecar's timeout
			for _, seconds := range []string{"0.1", "0.2", "0.7"} {
				o.must(o.cache.Do(o.Context(), "DEBUG", "SLEEP", seconds).Err())
			}
		}
		o.window.Add(1)
		o.work()
	},
}}
