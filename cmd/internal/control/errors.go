package control

import (
	"errors"
	"fmt"
	"net/http"
)

// ErrNoAgent is wrapped by the client's errors when nobody answers on the socket.
var ErrNoAgent = errors.New("no agent answers")

// Error is a failure as the API tells it: what is wrong, and what to do about it.
type Error struct {
	Code    int    `json:"-"` // HTTP status
	Message string `json:"error"`
	Hint    string `json:"hint"` // may be empty

	cause error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns what lies underneath, if anything does.
func (e *Error) Unwrap() error { return e.cause }

// NotFound is a 404: there is no such legion, job or run.
func NotFound(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusNotFound, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// BadRequest is a 400: the question makes no sense.
func BadRequest(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Refused is a 409: understood, possible in itself, and not now or not here.
func Refused(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusConflict, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Invalid is a 422: the configuration has errors; the message has one a line.
func Invalid(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusUnprocessableEntity, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Unavailable is a 503: the node cannot answer now.
func Unavailable(hint, format string, args ...any) *Error {
	return &Error{Code: http.StatusServiceUnavailable, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// asError makes an *Error of any error: what a backend did not classify is a
// fault of the node.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: http.StatusInternalServerError, Message: err.Error(), cause: err}
}
