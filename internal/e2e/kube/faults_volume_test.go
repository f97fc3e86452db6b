package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/helm"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// disk is a small volume.
type disk struct {
	t   testing.TB
	dir string
}

// newDisk mounts one. Nodes that start after it see it.
func newDisk(t testing.TB, size string) disk {
	t.Helper()
	d := disk{t, t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

func (d disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no byte of it.
func (d disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// free gives the room back.
func (d disk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// onVolume: the follower of the chart keeps its store on a claim. Its pod is
// deleted, its volume fills up, its pod is deleted then, too, and there is room
// again: the next pod goes on where the last one was, what had settled stays as it
// was, and nothing is lost.
func onVolume(t *testing.T, lab *kubetest.Lab) {
	small := newDisk(t, "96m")
	cluster := lab.NewCluster(t, "stored", 1)
	s := watchNode(t, cluster, 0)
	kube := s.space.Clientset
	restricted(t, kube)
	volume(t, kube, "follower", small.dir)
	values := quick(helm.Values{"cluster": cluster.Name, "image": image("accumulus-follower"), "persistence": map[string]any{"storageClass": "-"},
		"scrapeInterval": often.String(), "tokens": map[string]any{"generate": true},
		"extraArgs": []any{"--settle-deadline=" + patient.String(), "--facts-deadline=" + patient.String()}})
	if _, err := helmClient(&cluster.Standing, followerName, "a-person").Ensure(t.Context(), chart(t, "follower"), values, helm.Options{}); err != nil {
		t.Fatal(err)
	}
	s.meter = podMeter(t, kube)
	s.compare(still)
	uid := s.space.server(t, "works", s.node.Name)
	s.begin()
	s.space.ask(t, "works", "stress/cpu/1")
	s.meter.until(s.from)
	eventually(t, "rows that have their facts", s.meter.factual)
	settled := s.from
	before := s.keyed(settled)

	s.anotherPod()
	s.meter.until(settled)
	s.unchanged("after its pod was deleted", before, settled)

	small.fill()
	s.storeSays("no space left on device")
	s.sleep(2 * often)
	s.unchanged("while its volume is full", before, settled)
	if pod := followerPod(t, kube); pod.Status.ContainerStatuses[0].RestartCount > 0 || !pod.Status.ContainerStatuses[0].Ready {
		t.Errorf("its pod while the volume is full: %+v", pod.Status.ContainerStatuses)
	}
	s.anotherPod()
	s.storeSays("no space left on device")
	small.free()
	freed := s.clock.Now()
	s.storeSays("")
	t.Logf("goes on %s after there was room", s.clock.Now().Sub(freed).Round(time.Second))
	s.space.ask(t, "works", "stress/cpu/0")

	u := s.sums()
	s.adds(u)
	s.notNegative()
	if truth, got := s.pods.of(uid), u.pods[uid]; got < truth-2*idling || got > truth+2*idling {
		t.Errorf("the pod that worked: its control group counted %s core-s, metered %s", seconds(truth), seconds(got))
	}
	s.unchanged("in the end", before, settled)
	if pod := followerPod(t, kube); pod.Status.ContainerStatuses[0].RestartCount > 0 {
		t.Errorf("its pod in the end: %+v", pod.Status.ContainerStatuses)
	}
}

// podMeter is the chart's follower in its pod, as a viewer.
func podMeter(t testing.TB, kube *kubernetes.Clientset) *meter {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it makes its certificate itself
	t.Cleanup(transport.CloseIdleConnections)
	m := &meter{t: t, viewer: filepath.Join(t.TempDir(), "viewer.token"), client: &http.Client{Transport: transport}}
	var secret *corev1.Secret
	eventually(t, "the follower's tokens", func(ctx context.Context) (err error) {
		secret, err = kube.CoreV1().Secrets(standsIn).Get(ctx, "accumulus-follower-tokens", metav1.GetOptions{})
		return err
	})
	if err := os.WriteFile(m.viewer, secret.Data["viewer"], 0o600); err != nil {
		t.Fatal(err)
	}
	m.reach(kube)
	return m
}

// reach waits until the follower's pod is ready and answers.
func (m *meter) reach(kube *kubernetes.Clientset) {
	m.t.Helper()
	eventually(m.t, "the follower's pod", func(ctx context.Context) error { return available(ctx, kube, followerName) })
	m.url = "https://" + followerPod(m.t, kube).Status.PodIP + ":8443"
	m.connect()
}

// anotherPod deletes the follower's pod, and returns when the next one answers.
func (s *stand) anotherPod() {
	s.t.Helper()
	kube, old := s.space.Clientset, followerPod(s.t, s.space.Clientset)
	began := s.clock.Now()
	if err := kube.CoreV1().Pods(standsIn).Delete(s.t.Context(), old.Name, metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "another pod", func(ctx context.Context) error {
		pod, err := kube.CoreV1().Pods(standsIn).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + followerName})
		if err != nil {
			return err
		}
		for _, one := range pod.Items {
			if one.UID == old.UID || one.DeletionTimestamp != nil || len(one.Status.ContainerStatuses) == 0 || !one.Status.ContainerStatuses[0].Ready {
				return fmt.Errorf("pod %s: %+v", one.Name, one.Status.ContainerStatuses)
			}
		}
		if len(pod.Items) != 1 {
			return fmt.Errorf("%d pods", len(pod.Items))
		}
		return nil
	})
	s.meter.reach(kube)
	s.t.Logf("another pod answers %s after the first was deleted", s.clock.Now().Sub(began).Round(time.Second))
}

// storeSays waits until the follower's status tells such an error of its store, or
// none.
func (s *stand) storeSays(text string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("error %q of the store", text), func(ctx context.Context) error {
		status, err := s.meter.status(ctx)
		if err == nil && (text == "" && status.StoreError != "" || !strings.Contains(status.StoreError, text)) {
			err = fmt.Errorf("it is %q", status.StoreError)
		}
		if err == nil && text != "" {
			s.t.Logf("the status says: %s", status.StoreError)
		}
		return err
	})
}
