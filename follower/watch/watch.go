// Package watch keeps a log of a cluster's nodes, pods, ReplicaSets and Jobs
// from the API server's list and watch: who ran where, for whom, from when to
// when, and what it asked for.
//
// It guarantees that the log is the sum of its changes: Log.Restore of the
// stored changes gives the same answers after a restart, so what is computed
// from readings and log can be computed again. What ended while nobody watched
// is ended at the first sight of its absence. Only labels of the allow-list
// enter the log.
//
// It stores nothing, and reads no usage.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
	Labels []string // globs of the labels that are kept; nil = DefaultLabels
}

// Status is how the watch goes.
type Status struct {
	Synced      bool // everything was listed once
	LastError   string
	LastErrorAt time.Time
}

// Watch feeds its Log from the API server.
type Watch struct {
	*Log
	client kubernetes.Interface
	errs   prometheus.Counter

	mu     sync.Mutex
	status Status
}

// New makes a watch; it sends no request until Run.
func New(config Config, client kubernetes.Interface, clk clock.Clock, log *slog.Logger, registry prometheus.Registerer) (*Watch, error) {
	state, err := NewLog(config.Labels, clk, log)
	if err != nil {
		return nil, err
	}
	w := &Watch{Log: state, client: client, errs: prometheus.NewCounter(prometheus.CounterOpts{
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
	return w.status
}

// Run watches until ctx ends, and returns nil then. Failures are retried by
// the informers and shown by Status.
func (w *Watch) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithTransform(trim))
	registrations, err := w.register(factory)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel() // Shutdown waits for the informers
	var synced []cache.InformerSynced
	for _, registration := range registrations {
		synced = append(synced, registration.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	for _, kind := range []string{KindNode, KindPod, KindJob} {
		w.synced(kind)
	}
	w.mu.Lock()
	w.status.Synced = true
	w.mu.Unlock()
	w.log.Info("watch is in step with the API server")
	for {
		w.lookUp(ctx)
		if w.clock.Sleep(ctx, lookupEvery) != nil {
			return nil
		}
	}
}

// register hangs the log onto the informers.
func (w *Watch) register(factory informers.SharedInformerFactory) ([]cache.ResourceEventHandlerRegistration, error) {
	parts := []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{factory.Core().V1().Nodes().Informer(), handler(w.SetNode, w.DeleteNode)},
		{factory.Apps().V1().ReplicaSets().Informer(), handler(w.SetReplicaSet, w.DeleteReplicaSet)},
		{factory.Batch().V1().Jobs().Informer(), handler(w.SetJob, w.DeleteJob)},
		{factory.Core().V1().Pods().Informer(), handler(w.SetPod, w.DeletePod)},
	}
	var registrations []cache.ResourceEventHandlerRegistration
	for _, part := range parts {
		if err := part.informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			if ctx.Err() == nil {
				w.failed(err)
			}
		}); err != nil {
			return nil, fmt.Errorf("watch API server: %w", err)
		}
		registration, err := part.informer.AddEventHandler(part.handler)
		if err != nil {
			return nil, fmt.Errorf("watch API server: %w", err)
		}
		registrations = append(registrations, registration)
	}
	return registrations, nil
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

// trim drops from an object what the log does not need, before it is kept in
// memory.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	switch o := object.(type) {
	case *corev1.Node:
		o.Status.Images = nil
		o.Annotations = nil
	case *appsv1.ReplicaSet:
		o.Spec = appsv1.ReplicaSetSpec{}
		o.Annotations = nil
	case *batchv1.Job:
		o.Spec = batchv1.JobSpec{}
		o.Annotations = nil
	case *corev1.Pod:
		o.Spec.Volumes = nil
		o.Spec.Affinity = nil
		o.Spec.Tolerations = nil
		trimContainers(o.Spec.Containers)
		trimContainers(o.Spec.InitContainers)
		if mirror := o.Annotations[mirrorAnnotation]; mirror != "" {
			o.Annotations = map[string]string{mirrorAnnotation: mirror}
		} else {
			o.Annotations = nil
		}
	}
	return object, nil
}

// trimContainers keeps of each container what requests reads.
func trimContainers(containers []corev1.Container) {
	for i, c := range containers {
		containers[i] = corev1.Container{Name: c.Name, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
	}
}

func (w *Watch) failed(err error) {
	w.errs.Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status.LastError != err.Error() {
		w.log.Warn("watch of the API server failed", "err", err)
	}
	w.status.LastError, w.status.LastErrorAt = err.Error(), w.clock.Now()
}

// lookUp asks for the owners that pods wait for and no watch has shown.
func (w *Watch) lookUp(ctx context.Context) {
	for _, missing := range w.unresolved() {
		err := w.fetch(ctx, missing)
		switch {
		case err == nil:
		case apierrors.IsNotFound(err) || errors.Is(err, errOtherUID):
			w.absent(missing.uid)
		case ctx.Err() == nil:
			w.failed(fmt.Errorf("get %s %s/%s: %w", missing.kind, missing.namespace, missing.name, err))
		}
	}
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
