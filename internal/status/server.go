package status

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Who reaches the port needs no password, and must not be able to take the memory that the sidecar lives on: each
// connection may cost little, for a short time, and there are only so many.
const (
	maxConns       = 128
	ownTime        = 250 * time.Millisecond // that a connection has, however many others come
	maxHeaderBytes = 8 << 10
	requestTime    = 5 * time.Second  // to send a request, with its body
	answerTime     = 10 * time.Second // to take the answer
	idleTime       = 30 * time.Second // between two requests; Prometheus comes on a new connection then
)

// Serve answers at addr until it is stopped.
func Serve(ctx context.Context, addr string, handler http.Handler, log *zap.Logger) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	bounded := &boundedListener{Listener: listener, changed: make(chan struct{}, 1)}
	server := &http.Server{
		Handler:           bodiless(handler),
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         bounded.state,
		ErrorLog:          zap.NewStdLog(log),
	}
	log.Info("serving probes and metrics", zap.Stringer("address", listener.Addr()))
	go func() {
		if err := server.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP has ended", zap.Error(err))
		}
	}()
	return func() { _ = server.Close() }, nil
}

// bodiless answers a request at once, whatever becomes of a body that it says to have: nothing here reads one.
func bodiless(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // it is -1 if the length is not known
			w.Header().Set("Connection", "close") // else the server waits for the body before it answers
		}
		handler.ServeHTTP(w, r)
	})
}
