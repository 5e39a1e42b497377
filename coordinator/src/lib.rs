//! The rounds: events in, a journalled state machine, actions out. Knows no model.
