package status

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Serve answers at addr until it is stopped.
func Serve(ctx context.Context, addr string, handler http.Handler, log *zap.Logger) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: zap.NewStdLog(log)}
	log.Info("serving probes and metrics", zap.Stringer("address", listener.Addr()))
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP has ended", zap.Error(err))
		}
	}()
	return func() { _ = server.Close() }, nil
}
