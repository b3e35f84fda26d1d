package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// hangs answers the head of a watch, and nothing of anything else, until the test ends.
func hangs(t *testing.T, half bool) *kubernetes.Clientset {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if half || r.URL.Query().Has("watch") {
			_, _ = fmt.Fprint(w, "{")
			_ = http.NewResponseController(w).Flush()
		}
		<-ended
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	config := &rest.Config{Host: server.URL}
	config.Wrap(bounded(200 * time.Millisecond))
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestARequestThatIsNeverAnsweredIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		pods := hangs(t, half).CoreV1().Pods("default")
		if _, err := pods.List(t.Context(), metav1.ListOptions{}); err == nil {
			t.Errorf("half an answer: %v: a list succeeded", half)
		}
		if _, err := pods.Create(t.Context(), &corev1.Pod{}, metav1.CreateOptions{}); err == nil || !half && !strings.Contains(err.Error(), "no answer of the API server within 200ms") {
			t.Errorf("half an answer: %v: a write: %v", half, err)
		}
	}
}

func TestAWatchMayBeSilent(t *testing.T) {
	t.Parallel()
	watch, err := hangs(t, false).CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	select {
	case event, open := <-watch.ResultChan():
		t.Errorf("the watch says %v (open: %v)", event, open)
	case <-time.After(600 * time.Millisecond):
	}
}

func TestPingsAreSetUnlessTheEnvironmentSaysHow(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "77")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "")
	if err := noticeDeadConnections(); err != nil {
		t.Fatal(err)
	}
	if idle, ping := os.Getenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS"), os.Getenv("HTTP2_PING_TIMEOUT_SECONDS"); idle != "77" || ping != "5" {
		t.Errorf("pings after %s s, for %s s", idle, ping)
	}
}

func TestWhatTheAPIServerRefusesForAWhileComesAgainAfterIt(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	came := map[string][]time.Time{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came[r.URL.Path] = append(came[r.URL.Path], time.Now())
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	client := &http.Client{Transport: patient(http.DefaultTransport)}
	ask := func(ctx context.Context, path string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPatch, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	hurried, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for _, path := range []string{"/one", "/other"} {
		if err := ask(hurried, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(hurried, "/one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whoever has no time gets %v", err)
	}
	if err := ask(t.Context(), "/one"); err != nil {
		t.Fatal(err)
	}
	if one := came["/one"]; len(one) != 2 || one[1].Sub(one[0]) < time.Second {
		t.Errorf("it came at %v", one)
	}
}
