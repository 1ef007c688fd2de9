package logging

import (
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A jsonLines writes for other programs: one object on each line.
type jsonLines struct {
	zapcore.Encoder
	out  *os.File
	node string
}

func newJSON(out *os.File, node string) *jsonLines {
	return &jsonLines{out: out, node: node, Encoder: zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message",
		EncodeTime: func(t time.Time, to zapcore.PrimitiveArrayEncoder) {
			to.AppendString(t.UTC().Format(time.RFC3339Nano))
		},
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})}
}

func (j *jsonLines) line(e zapcore.Entry, fields []zapcore.Field) entry {
	buf, err := j.EncodeEntry(e, j.withNode(fields))
	if err != nil { // a field that cannot be told: the message still can
		buf, _ = j.EncodeEntry(e, []zapcore.Field{zap.NamedError("encoding", err)})
	}
	defer buf.Free()
	return entry{text: slices.Clone(buf.Bytes())}
}

// withNode adds whose line it is, unless it says so: an object must not have a
// key twice.
func (j *jsonLines) withNode(fields []zapcore.Field) []zapcore.Field {
	if j.node == "" || slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == keyNode }) {
		return fields
	}
	return append(slices.Clip(fields), Node(j.node))
}

func (j *jsonLines) output(job string, fields []zapcore.Field) func(time.Time, string, []byte) entry {
	if !slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == keyJob }) {
		fields = append(fields, Job(job))
	}
	return func(now time.Time, stream string, line []byte) entry {
		return j.line(zapcore.Entry{Level: zap.InfoLevel, Time: now, Message: string(line)},
			append(slices.Clip(fields), Stream(stream)))
	}
}

func (j *jsonLines) write(e entry) error {
	_, err := j.out.Write(e.text)
	return err
}

func (j *jsonLines) away(error) bool { return false }
