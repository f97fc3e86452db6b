// Package watch keeps a log of a cluster's nodes, pods, ReplicaSets, Jobs, volume
// claims and namespaces from the API server's list and watch: who ran where, for
// whom, from when to when, and what it asked for.
//
// It guarantees that the log is the sum of its changes: Log.Restore of the
// stored changes gives the same answers after a restart, so what is computed
// from readings and log can be computed again. What ended while nobody watched
// is ended at the first sight of its absence. Only labels of the allow-list
// enter the log, and where an Aliaser is given, no name does but nodes' and those
// of resources, classes and kinds.
//
// It asks for lists and watches of nodes, pods, namespaces, ReplicaSets, Jobs,
// PersistentVolumes, their claims and StorageClasses, and gets ReplicaSets and
// Jobs by name; nothing else. It stores nothing, and reads no usage.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// lookupEvery is how often an owner that pods wait for is asked for by name.
const lookupEvery = 5 * time.Second

// Config is what is watched.
type Config struct {
	Labels      []string // globs of the labels that are kept; nil = DefaultLabels
	Annotations []string // globs of the pods' annotations that are kept among their labels; nil = none
	JobGroups   []string // labels whose value groups Jobs into a workload; nil = DefaultJobGroups
	Namespace   string   // of the metering itself; "" = unknown
	Alias       Aliaser  // gives names that leave the cluster; nil = their own
}

// Status is how the watch goes.
type Status struct {
	Synced      bool     // nodes, pods and their owners were listed once
	Unlisted    []string // further kinds that were not listed yet, or are refused
	LastError   string   // the newest of those that stand; "" when everything goes well again
	LastErrorAt time.Time
}

// Watch feeds its Log from the API server.
type Watch struct {
	*Log
	client kubernetes.Interface
	errs   prometheus.Counter

	mu      sync.Mutex
	status  Status
	failing map[int]failure // by part; the look-ups have their own
}

// failure is what fails now.
type failure struct {
	text string
	at   time.Time
	over func() bool // nil: the next attempt says so
}

// lookups is their place among what fails.
const lookups = -1

// New makes a watch; it sends no request until Run.
func New(config Config, client kubernetes.Interface, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Watch, error) {
	state, err := NewLog(config, clk, log)
	if err != nil {
		return nil, err
	}
	w := &Watch{Log: state, client: client, failing: make(map[int]failure), errs: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "accumulus_watch_errors_total", Help: "Lists and watches of the API server that failed."})}
	objects := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "accumulus_watch_objects",
		Help: "Nodes, pods and Jobs in the log, ended ones included."}, func() float64 { return float64(state.size()) })
	for _, c := range []prometheus.Collector{w.errs, objects} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register watch metrics: %w", err)
		}
	}
	return w, nil
}

func (l *Log) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.objects)
}

// Status is how the watch goes.
func (w *Watch) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := w.status
	for of, f := range w.failing {
		if f.over != nil && f.over() {
			delete(w.failing, of)
		} else if !f.at.Before(status.LastErrorAt) {
			status.LastError, status.LastErrorAt = f.text, f.at
		}
	}
	return status
}

// Run watches until ctx ends, and returns nil then. Failures are retried by
// the informers and shown by Status.
func (w *Watch) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithTransform(w.trim))
	core, further, err := w.register(factory)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel() // Shutdown waits for the informers
	if !cache.WaitForCacheSync(ctx.Done(), core...) {
		return nil
	}
	for _, kind := range []string{KindNode, KindPod, KindJob} {
		w.synced(kind)
	}
	w.sync(further)
	w.mu.Lock()
	w.status.Synced = true
	w.mu.Unlock()
	w.log.Info("watch is in step with the API server")
	for {
		w.sync(further)
		w.lookUp(ctx)
		if w.clock.Sleep(ctx, lookupEvery) != nil {
			return nil
		}
	}
}

// sync ends what was restored and is not there, of each further kind once all of
// it was listed. A kind that the API server refuses holds nothing else back.
func (w *Watch) sync(further map[string]cache.InformerSynced) {
	for kind, synced := range further {
		if synced() {
			w.synced(kind)
			delete(further, kind)
		}
	}
	unlisted := slices.Sorted(maps.Keys(further))
	w.mu.Lock()
	w.status.Unlisted = unlisted
	w.mu.Unlock()
}

// part is one kind of objects that is watched.
type part struct {
	informer cache.SharedIndexInformer
	handler  cache.ResourceEventHandler
	kind     string // of what is not needed to meter pods; "" = it is
}

// register hangs the log onto the informers. It returns when what is needed to
// meter pods was listed, and the same for each further kind.
func (w *Watch) register(factory informers.SharedInformerFactory) (core []cache.InformerSynced, further map[string]cache.InformerSynced, err error) {
	v1 := factory.Core().V1()
	parts := []part{
		{v1.Nodes().Informer(), handler(w.SetNode, w.DeleteNode), ""},
		{factory.Apps().V1().ReplicaSets().Informer(), handler(w.SetReplicaSet, w.DeleteReplicaSet), ""},
		{factory.Batch().V1().Jobs().Informer(), handler(w.SetJob, w.DeleteJob), ""},
		{v1.Pods().Informer(), handler(w.SetPod, w.DeletePod), ""},
		{v1.Namespaces().Informer(), handler(w.SetNamespace, w.DeleteNamespace), KindNamespace},
		{factory.Storage().V1().StorageClasses().Informer(), handler(w.SetClass, w.DeleteClass), "StorageClass"},
		{v1.PersistentVolumes().Informer(), handler(w.SetVolume, w.DeleteVolume), "PersistentVolume"},
		{v1.PersistentVolumeClaims().Informer(), handler(w.SetClaim, w.DeleteClaim), KindClaim},
	}
	further = make(map[string]cache.InformerSynced)
	for i, part := range parts {
		if err := part.informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			if ctx.Err() == nil {
				w.failed(i, err, overWith(part.informer))
			}
		}); err != nil {
			return nil, nil, fmt.Errorf("watch API server: %w", err)
		}
		registration, err := part.informer.AddEventHandler(part.handler)
		if err != nil {
			return nil, nil, fmt.Errorf("watch API server: %w", err)
		}
		if part.kind == "" {
			core = append(core, registration.HasSynced)
		} else {
			further[part.kind] = registration.HasSynced
		}
	}
	return core, further, nil
}

// handler hands every event of one kind to set or gone.
func handler[T any](set, gone func(*T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if o, ok := object.(*T); ok {
				set(o)
			}
		},
		UpdateFunc: func(_, object any) {
			if o, ok := object.(*T); ok {
				set(o)
			}
		},
		DeleteFunc: func(object any) {
			if unseen, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unseen.Obj
			}
			if o, ok := object.(*T); ok {
				gone(o)
			}
		},
	}
}

// overWith says, of a list or watch that failed now, whether it goes on: every
// list, event and bookmark brings another version.
func overWith(informer cache.SharedIndexInformer) func() bool {
	version := informer.LastSyncResourceVersion()
	return func() bool { return informer.LastSyncResourceVersion() != version }
}

func (w *Watch) failed(of int, err error, over func() bool) {
	w.errs.Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing[of].text != err.Error() {
		w.log.Warn("watch of the API server failed", "err", err)
	}
	w.failing[of] = failure{err.Error(), w.clock.Now(), over}
}

// lookUp asks for the owners that pods wait for and no watch has shown.
func (w *Watch) lookUp(ctx context.Context) {
	failed := false
	for _, missing := range w.unresolved() {
		err := w.fetch(ctx, missing)
		switch {
		case err == nil:
		case apierrors.IsNotFound(err) || errors.Is(err, errOtherUID):
			w.absent(missing.uid)
		case ctx.Err() == nil:
			failed = true
			w.failed(lookups, w.lookUpError(missing, err), nil)
		}
	}
	if !failed {
		w.mu.Lock()
		delete(w.failing, lookups)
		w.mu.Unlock()
	}
}

// lookUpError is shown by the status, which leaves the cluster: with an Aliaser
// it has no name, and nothing of the answer, which repeats it.
func (w *Watch) lookUpError(missing lookup, err error) error {
	if w.alias != nil {
		return fmt.Errorf("get %s of UID %s: %s", missing.kind, missing.uid, cmp.Or(string(apierrors.ReasonForError(err)), "no answer"))
	}
	return fmt.Errorf("get %s %s/%s: %w", missing.kind, missing.namespace, missing.name, err)
}

// errOtherUID: another object has the name now.
var errOtherUID = errors.New("another object of that name")

func (w *Watch) fetch(ctx context.Context, missing lookup) error {
	if missing.kind == KindJob {
		job, err := w.client.BatchV1().Jobs(missing.namespace).Get(ctx, missing.name, metav1.GetOptions{})
		if err == nil && string(job.UID) != missing.uid {
			return errOtherUID
		}
		if err == nil {
			w.SetJob(job)
		}
		return err
	}
	set, err := w.client.AppsV1().ReplicaSets(missing.namespace).Get(ctx, missing.name, metav1.GetOptions{})
	if err == nil && string(set.UID) != missing.uid {
		return errOtherUID
	}
	if err == nil {
		w.SetReplicaSet(set)
	}
	return err
}
