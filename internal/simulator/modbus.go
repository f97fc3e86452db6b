package simulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// Registers of an SDM120: input registers, each value a float32 in two of them.
const (
	sdmWatts         = 0x000C
	sdmKilowattHours = 0x0048
)

// modbusServer is a Modbus TCP gateway with one meter behind it.
type modbusServer struct {
	meter    *meterServer
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// serveModbus starts a gateway's listener; it has the form of serve.
func (s *Server) serveModbus(meter *meterServer) func(context.Context, int, http.Handler, bool) (net.TCPAddr, error) {
	return func(_ context.Context, port int, _ http.Handler, _ bool) (net.TCPAddr, error) {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return net.TCPAddr{}, err
		}
		m := &modbusServer{meter: meter, listener: listener, open: make(map[net.Conn]bool)}
		s.servers = append(s.servers, m)
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			m.run()
		}()
		return *listener.Addr().(*net.TCPAddr), nil
	}
}

// run answers until Close.
func (m *modbusServer) run() {
	defer m.running.Wait()
	for {
		connection, err := m.listener.Accept()
		if err != nil {
			return // Close
		}
		if !m.enter(connection) {
			_ = connection.Close() // it came with the end
			return
		}
		m.running.Add(1)
		go func() {
			defer m.running.Done()
			defer m.leave(connection)
			for m.answer(connection) == nil {
			}
		}()
	}
}

func (m *modbusServer) enter(connection net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.open[connection] = true
	}
	return !m.closed
}

func (m *modbusServer) leave(connection net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, connection)
	_ = connection.Close() // the client has gone, or Close was here before
}

// Close ends the listener and every connection; it may be called again.
func (m *modbusServer) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	for connection := range m.open {
		_ = connection.Close() // leave closes it too
	}
	return m.listener.Close()
}

var errDown = errors.New("the meter is down")

// answer reads one request and answers it: two input registers, or an exception.
func (m *modbusServer) answer(connection io.ReadWriter) error {
	var request [12]byte
	if _, err := io.ReadFull(connection, request[:]); err != nil {
		return err
	}
	now := m.meter.clock.Now()
	fault, _ := m.meter.fault.get()
	if fault.Down || m.meter.meter.DeadAt(now) {
		return errDown
	}
	unit, function := request[6], request[7]
	body := []byte{unit, function, 4}
	value, known := m.register(binary.BigEndian.Uint16(request[8:]), fault.moment(now))
	switch {
	case function != 4:
		body = []byte{unit, function | 0x80, 1}
	case !known:
		body = []byte{unit, function | 0x80, 2}
	case binary.BigEndian.Uint16(request[10:]) != 2:
		body = []byte{unit, function | 0x80, 3}
	default:
		body = binary.BigEndian.AppendUint32(body, math.Float32bits(value))
	}
	frame := append([]byte{request[0], request[1], 0, 0}, 0, byte(len(body)))
	_, err := connection.Write(append(frame, body...))
	return err
}

// register is the value that begins there.
func (m *modbusServer) register(address uint16, at time.Time) (value float32, known bool) {
	switch address {
	case sdmWatts:
		return float32(m.meter.watts(at)), true
	case sdmKilowattHours:
		s := m.meter.sim
		return kilowattHours(s.rawCounter(m.meter.box, m.meter.meter, at)), true
	}
	return 0, false
}
