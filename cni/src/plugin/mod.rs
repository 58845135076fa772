//! The verbs: ADD, DEL, CHECK, GC, STATUS and VERSION.
