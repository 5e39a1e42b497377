//! Identity: who may talk to whom. The only source of a site's identity is a verified certificate.
