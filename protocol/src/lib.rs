//! The wire between sites and coordinator: identifiers, plans, messages, codec, parameter schema,
//! manifests and transfer. Pure: no IO, no clock.
