package meters

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// registers are where a meter's values stand: input registers, two for each
// float32, the high one first (Eastron's protocol documents).
var registers = map[string]fleet.MeterFields{
	fleet.PresetSDM630: {Counter: fleet.FieldRef{Path: "0x0048", Unit: "kWh"}, Power: fleet.FieldRef{Path: "0x0034", Unit: "W"}},
	fleet.PresetSDM120: {Counter: fleet.FieldRef{Path: "0x0048", Unit: "kWh"}, Power: fleet.FieldRef{Path: "0x000C", Unit: "W"}},
}

// modbusReader reads meters behind a Modbus TCP gateway with function 04. It
// connects for each reading: gateways have few places.
type modbusReader struct{ clock clock.Clock }

func (r modbusReader) read(ctx context.Context, m fleet.Meter, _ time.Time) (_ []sample, err error) {
	u, err := url.Parse(m.URL)
	if err != nil {
		return nil, fmt.Errorf("address of meter %s: %w", m.Name, err)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "502")
	}
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("read meter: %w", err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("read %s: %w", m.URL, err)
		}
	}
	asked := r.clock.Now()
	s, err := readRegisters(connection, m)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.URL, err)
	}
	s.received = asked.Add(r.clock.Now().Sub(asked) / 2)
	return []sample{s}, nil
}

func readRegisters(connection io.ReadWriter, m fleet.Meter) (s sample, err error) {
	fields, preset := registers[m.Preset]
	if !preset {
		fields = m.Fields
	}
	unit := byte(max(m.Channel, 1))
	if fields.Counter.Path != "" {
		value, err := readFloat(connection, 1, unit, fields.Counter.Path)
		if err != nil {
			return sample{}, err
		}
		factor := counterFactors[fields.Counter.Unit]
		if s.counter, err = scaledFloat(value, factor); err != nil {
			return sample{}, fmt.Errorf("register %s: %w", fields.Counter.Path, err)
		}
		s.hasCounter, s.step = true, spacing(value, factor)
	}
	if fields.Power.Path != "" {
		value, err := readFloat(connection, 2, unit, fields.Power.Path)
		if err != nil {
			return sample{}, err
		}
		if s.power, err = scaledFloat(value, powerFactors[fields.Power.Unit]); err != nil {
			return sample{}, fmt.Errorf("register %s: %w", fields.Power.Path, err)
		}
		s.hasPower = true
	}
	return s, nil
}

// readFloat asks for the two registers from one on.
func readFloat(connection io.ReadWriter, transaction uint16, unit byte, register string) (float32, error) {
	first, err := strconv.ParseUint(register, 0, 16)
	if err != nil {
		return 0, fmt.Errorf("register %q: %w", register, err)
	}
	request := binary.BigEndian.AppendUint16(nil, transaction)
	request = append(request, 0, 0, 0, 6, unit, functionInput)
	request = binary.BigEndian.AppendUint16(request, uint16(first))
	request = binary.BigEndian.AppendUint16(request, 2)
	if _, err := connection.Write(request); err != nil {
		return 0, fmt.Errorf("ask for register %s: %w", register, err)
	}
	value, err := readAnswer(connection, transaction, unit)
	if err != nil {
		return 0, fmt.Errorf("register %s: %w", register, err)
	}
	return value, nil
}

// functionInput reads input registers; an exception has the bit of 128 besides.
const functionInput = 4

// modbusErrors are what exceptions mean (Modbus Application Protocol 1.1b3).
var modbusErrors = map[byte]string{1: "the device does not know function 04", 2: "the device has no such register", 3: "the device refuses the number of registers",
	4: "the device failed", 6: "the device is busy", 10: "the gateway has no path to the unit", 11: "the unit does not answer the gateway: is its number right (channel)?"}

// readAnswer reads one float32 of an answer.
func readAnswer(connection io.Reader, transaction uint16, unit byte) (float32, error) {
	var header [7]byte
	if _, err := io.ReadFull(connection, header[:]); err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	length := binary.BigEndian.Uint16(header[4:])
	if binary.BigEndian.Uint16(header[2:]) != 0 || length < 3 || length > 254 {
		return 0, errors.New("the answer is not Modbus TCP")
	}
	body := make([]byte, length-1)
	if _, err := io.ReadFull(connection, body); err != nil {
		return 0, fmt.Errorf("answer ends early: %w", err)
	}
	switch {
	case binary.BigEndian.Uint16(header[:]) != transaction || header[6] != unit:
		return 0, errors.New("the answer is that to another question")
	case body[0] == functionInput|0x80:
		if text, ok := modbusErrors[body[1]]; ok {
			return 0, errors.New(text)
		}
		return 0, fmt.Errorf("the device answers with exception %d", body[1])
	case body[0] != functionInput || len(body) != 6 || body[1] != 4:
		return 0, errors.New("the answer does not hold two registers")
	}
	return math.Float32frombits(binary.BigEndian.Uint32(body[2:])), nil
}

// scaledFloat is the value times factor, floored, exactly.
func scaledFloat(value float32, factor int64) (int64, error) {
	exact := new(big.Rat).SetFloat64(float64(value))
	if exact == nil {
		return 0, fmt.Errorf("%v is no number", value)
	}
	exact.Mul(exact, new(big.Rat).SetInt64(factor))
	floor := new(big.Int).Div(exact.Num(), exact.Denom()) // Euclidean: floors
	if !floor.IsInt64() {
		return 0, fmt.Errorf("number %v is out of range", value)
	}
	return floor.Int64(), nil
}
