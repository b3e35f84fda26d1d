package controllers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// readyTimeout is how long a readiness probe waits for the cache.
const readyTimeout = 500 * time.Millisecond

// CacheSynced is ready once all Invariants and Tickets have been read; a standby that is ready takes over warm.
func CacheSynced(c cache.Cache) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), readyTimeout)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("not all Invariants and Tickets have been read yet")
		}
		return nil
	}
}
