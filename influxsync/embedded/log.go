package embedded

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// engineLog is a logger for the engine that writes to l at debug.
func engineLog(l *slog.Logger) *zap.Logger {
	if l == nil || !l.Enabled(context.Background(), slog.LevelDebug) {
		return zap.NewNop()
	}
	return zap.New(slogCore{l.With("component", "influxdb")})
}

// slogCore hands each entry to slog.
type slogCore struct{ l *slog.Logger }

// Enabled says yes: engineLog has asked.
func (slogCore) Enabled(zapcore.Level) bool { return true }

// With adds fields to each entry.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.l.With(attributes(fields)...)}
}

// Check takes every entry.
func (c slogCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

// Write logs at debug, with the engine's own level as a key.
func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.l.Debug(e.Message, append(attributes(fields), "level_influxdb", e.Level.String())...)
	return nil
}

// Sync has nothing to do.
func (slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	var args []any
	for key, value := range encoder.Fields {
		args = append(args, key, value)
	}
	return args
}
