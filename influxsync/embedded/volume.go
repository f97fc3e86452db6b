package embedded

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// The engine does not survive a volume that was full for a moment. Its logs
// are written through buffers that give their first error for ever, so that it
// takes nothing any more although there is room again. Where it does take rows,
// they may belong to series that it holds in memory and that never came into its
// index on disk: the rows are acknowledged, and gone after the next start.
//
// So after a write that the volume failed the engine is given no other: writes
// are refused with the reason, and with nothing lost that was acknowledged, until
// the volume has room and the store is opened again on what is on disk. Queries
// are answered meanwhile.

// wantsRoom is how much must be free for the store to be opened again. What is
// less fills up before anybody has noticed.
const wantsRoom = 16 << 20

// hurts are the texts of errors after which the engine cannot be trusted.
var hurts = []string{syscall.ENOSPC.Error(), syscall.EDQUOT.Error(), syscall.EFBIG.Error(), syscall.EIO.Error(), syscall.EROFS.Error(),
	os.ErrClosed.Error()}

// serve hands a request to the engine that is open.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/write" {
		if err := s.heal(); err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		w = &outcome{ResponseWriter: w, server: s}
	}
	s.use.RLock()
	defer s.use.RUnlock()
	if s.engine == nil {
		refuse(w, http.StatusServiceUnavailable, "the store is not open: its volume was full")
		return
	}
	s.engine.handler.ServeHTTP(w, r)
}

// refuse answers as the engine does.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Influxdb-Error", message)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message}) // a reader that went away needs no answer
}

// outcome sees the answer to a write before the one who wrote does.
type outcome struct {
	http.ResponseWriter
	server *Server
}

// WriteHeader notes a failure of the volume.
func (o *outcome) WriteHeader(status int) {
	if message := o.Header().Get("X-Influxdb-Error"); status/100 == 5 && hurtful(message) {
		o.server.note(message)
	}
	o.ResponseWriter.WriteHeader(status)
}

func hurtful(message string) bool {
	for _, text := range hurts {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}

func (s *Server) note(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hurt == "" {
		s.log.Warn("the store takes no rows until its volume has room", "dir", s.config.Dir, "err", why)
	}
	s.hurt = why
}

// heal opens the store again if it was hurt and has room, or says why not.
func (s *Server) heal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hurt == "" {
		return nil
	}
	free, err := room(s.config.Dir)
	if err != nil {
		return fmt.Errorf("%s; look for room: %w", s.hurt, err)
	}
	if free < wantsRoom {
		return fmt.Errorf("%w: %d MiB are free in %s, of %d that the store wants to go on", syscall.ENOSPC, free>>20, s.config.Dir, wantsRoom>>20)
	}
	if !s.use.TryLock() { // whoever reads may be the one who writes
		return fmt.Errorf("there is room again, and the store is opened when no query runs; before: %s", s.hurt)
	}
	defer s.use.Unlock()
	if s.engine != nil {
		// Buffers that could not be written say so once more.
		if err := s.engine.close(); err != nil {
			s.log.Debug("close the store of a volume that was full", "dir", s.config.Dir, "err", err)
		}
		s.engine = nil
	}
	if s.engine, err = openEngine(s.config, s.meta, engineLog(s.log)); err != nil {
		return fmt.Errorf("open the store again after its volume was full: %w", err)
	}
	s.log.Info("the store takes rows again", "dir", s.config.Dir)
	s.hurt = ""
	return nil
}

// present is the engine that is open, or nil.
func (s *Server) present() *engine {
	s.use.RLock()
	defer s.use.RUnlock()
	return s.engine
}
