//! The stack machine.

use super::{Id, Node, Order, Parts, PickleFault};
use std::collections::HashMap;

/// The newest protocol that there is.
const NEWEST_PROTOCOL: u8 = 5;

/// More values than a file of arrays has, which has few besides its labels and names.
const MOST_NODES: usize = 1 << 20;

/// The functions and classes that NumPy's arrays are pickled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Ndarray,
    Dtype,
    Reconstruct,
    FromBuffer,
    Scalar,
    /// `_codecs.encode`, by which Python 3 writes bytes in protocols up to 2.
    Encode,
    /// `bytes` and `bytearray`.
    Bytes,
}

impl Function {
    fn named(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"numpy", b"ndarray") => Self::Ndarray,
            (b"numpy", b"dtype") => Self::Dtype,
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Self::Reconstruct,
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"scalar") => Self::Scalar,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Self::FromBuffer,
            (b"_codecs", b"encode") => Self::Encode,
            (b"__builtin__" | b"builtins", b"bytes" | b"bytearray") => Self::Bytes,
            _ => return None,
        })
    }
}

/// Runs a pickle: all values, and the number of the one that it gives.
pub(super) fn run(bytes: &[u8]) -> Result<(Vec<Node<'_>>, Id), PickleFault> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let root = machine.run()?;
    Ok((machine.nodes, root))
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// The place of the instruction.
    start: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// The heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn damaged<T>(&self, what: &'static str) -> Result<T, PickleFault> {
        Err(PickleFault::Damaged { at: self.start, what })
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], PickleFault> {
        let rest = &self.bytes[self.at..];
        let cut = PickleFault::Cut { at: self.bytes.len() };
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count)).ok_or(cut)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, PickleFault> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N as u64)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Bytes behind their length in `N` bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], PickleFault> {
        let length = self.number::<N>()?;
        self.take(length)
    }

    fn line(&mut self) -> Result<&'a [u8], PickleFault> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleFault::Cut { at: self.bytes.len() })?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), PickleFault> {
        if self.nodes.len() == MOST_NODES {
            return self.damaged("more than a million values");
        }
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }

    /// The height below which the stack belongs to what came before the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleFault> {
        if self.stack.len() <= self.floor() {
            return self.damaged("a value is missing");
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    fn top(&self) -> Result<Id, PickleFault> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => self.damaged("a value is missing"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleFault> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.damaged("a mark is missing"),
        }
    }

    fn pop_tuple(&mut self, length: usize) -> Result<Vec<Id>, PickleFault> {
        if self.stack.len() - self.floor() < length {
            return self.damaged("a value is missing");
        }
        Ok(self.stack.split_off(self.stack.len() - length))
    }

    /// Runs to the end and gives the value that is left.
    fn run(&mut self) -> Result<Id, PickleFault> {
        loop {
            self.start = self.at;
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                return self.top();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            // PROTO, FRAME
            0x80 => match self.number::<1>()? as u8 {
                0..=NEWEST_PROTOCOL => {}
                newer => return Err(PickleFault::Protocol(newer)),
            },
            0x95 => drop(self.take(8)?),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Node::Other)?,
            0x88 => self.push(Node::Int(1))?,
            0x89 => self.push(Node::Int(0))?,
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Node::Other)?;
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = self.number::<4>()? as u32;
                self.push(Node::Int(i64::from(value.cast_signed())))?;
            }
            b'K' => {
                let value = self.number::<1>()?;
                self.push(Node::Int(value as i64))?;
            }
            b'M' => {
                let value = self.number::<2>()?;
                self.push(Node::Int(value as i64))?;
            }
            0x8a => self.long()?,
            // Texts and bytes by the length of their length.
            b'U' | b'C' | 0x8c => {
                let text = self.counted::<1>()?;
                self.push(Node::Bytes(text))?;
            }
            b'T' | b'B' | b'X' => {
                let text = self.counted::<4>()?;
                self.push(Node::Bytes(text))?;
            }
            0x8d | 0x8e | 0x96 => {
                let text = self.counted::<8>()?;
                self.push(Node::Bytes(text))?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.function(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module], &self.nodes[name]) {
                    (&Node::Bytes(module), &Node::Bytes(name)) => self.function(module, name)?,
                    _ => return self.damaged("a function without a name"),
                }
            }
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => self.arrange(opcode)?,
        }
        Ok(())
    }

    /// The instructions for lists, tuples, dictionaries, the stack and the memo.
    fn arrange(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            b']' => self.push(Node::List(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'(' => self.marks.push(self.stack.len()),
            // POP, POP_MARK, DUP
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // TUPLE, LIST, TUPLE1, TUPLE2, TUPLE3
            b't' => {
                let entries = self.pop_to_mark()?;
                self.push(Node::Tuple(entries))?;
            }
            b'l' => {
                let entries = self.pop_to_mark()?;
                self.push(Node::List(entries))?;
            }
            0x85..=0x87 => {
                let entries = self.pop_tuple(usize::from(opcode - 0x84))?;
                self.push(Node::Tuple(entries))?;
            }
            // APPEND, APPENDS
            b'a' => {
                let entry = self.pop()?;
                self.append(vec![entry])?;
            }
            b'e' => {
                let entries = self.pop_to_mark()?;
                self.append(entries)?;
            }
            // SETITEM, SETITEMS, DICT
            b's' => {
                let entries = self.pop_tuple(2)?;
                self.set_items(&entries)?;
            }
            b'u' => {
                let entries = self.pop_to_mark()?;
                self.set_items(&entries)?;
            }
            b'd' => {
                let entries = self.pop_to_mark()?;
                self.push(Node::Dict(Vec::new()))?;
                self.set_items(&entries)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let key = self.number::<1>()?;
                self.remember(key as u32)?;
            }
            b'r' => {
                let key = self.number::<4>()?;
                self.remember(key as u32)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let key = self.number::<1>()?;
                self.recall(key as u32)?;
            }
            b'j' => {
                let key = self.number::<4>()?;
                self.recall(key as u32)?;
            }
            _ => return Err(PickleFault::Instruction { at: self.start, opcode }),
        }
        Ok(())
    }

    /// A whole number of up to eight bytes; longer ones are nothing that anybody asks for.
    fn long(&mut self) -> Result<(), PickleFault> {
        let bytes = self.counted::<1>()?;
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                self.push(Node::Int(i64::from_le_bytes(wide)))
            }
            None => self.push(Node::Other),
        }
    }

    fn remember(&mut self, key: u32) -> Result<(), PickleFault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), PickleFault> {
        match self.memo.get(&key) {
            Some(&id) => self.stack.push(id),
            None => return self.damaged("it refers to a value that is not there"),
        }
        Ok(())
    }

    fn append(&mut self, entries: Vec<Id>) -> Result<(), PickleFault> {
        let list = self.top()?;
        let Node::List(known) = &mut self.nodes[list] else { return self.damaged("entries without a list") };
        known.extend(entries);
        Ok(())
    }

    fn set_items(&mut self, entries: &[Id]) -> Result<(), PickleFault> {
        let dict = self.top()?;
        let (pairs, rest) = entries.as_chunks::<2>();
        if !rest.is_empty() {
            return self.damaged("a key without a value");
        }
        let Node::Dict(known) = &mut self.nodes[dict] else { return self.damaged("entries without a dictionary") };
        known.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn function(&mut self, module: &[u8], name: &[u8]) -> Result<(), PickleFault> {
        let Some(function) = Function::named(module, name) else {
            let full = [module, b".", name].concat();
            let shown: String = String::from_utf8_lossy(&full).chars().take(60).flat_map(char::escape_debug).collect();
            return Err(PickleFault::Global { name: shown });
        };
        self.push(Node::Function(function))
    }

    /// What a function would give for its arguments.
    fn reduce(&mut self) -> Result<(), PickleFault> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (&Node::Function(function), Node::Tuple(arguments)) = (&self.nodes[function], &self.nodes[arguments])
        else {
            return self.damaged("a call without a function or its arguments");
        };
        let node = match (function, &arguments[..]) {
            (Function::Reconstruct, _) => Node::Array(None),
            (Function::Dtype, [name, ..]) => Node::Dtype { name: *name, order: None },
            (Function::FromBuffer, &[data, dtype, shape, letter]) => {
                Node::Array(Some(Parts { shape: Some(shape), dtype, order: Order::Letter(letter), data }))
            }
            // With an order of the axes, which is neither of the two.
            (Function::FromBuffer, _) => Node::Array(None),
            (Function::Scalar, &[dtype, data]) => {
                Node::Array(Some(Parts { shape: None, dtype, order: Order::Rows, data }))
            }
            (Function::Encode, &[text, ..]) => match self.nodes[text] {
                Node::Bytes(text) => match std::str::from_utf8(text) {
                    Ok(text) => Node::Latin1(text),
                    Err(_) => return self.damaged("a text that is not UTF-8"),
                },
                _ => return self.damaged("bytes that are not text"),
            },
            (Function::Bytes, []) => Node::Bytes(b""),
            (Function::Bytes, &[bytes]) => match self.nodes[bytes] {
                ref known @ (Node::Bytes(_) | Node::Latin1(_)) => known.clone(),
                _ => return self.damaged("bytes that are not bytes"),
            },
            _ => return self.damaged("a call with the wrong arguments"),
        };
        self.push(node)
    }

    /// Gives an array or a type of values the state that was pickled with it.
    fn build(&mut self) -> Result<(), PickleFault> {
        let (state, object) = (self.pop()?, self.top()?);
        let Node::Tuple(state) = &self.nodes[state] else { return self.damaged("a state that is not a tuple") };
        let changed = match (&self.nodes[object], &state[..]) {
            // A version comes first.
            (Node::Array(_), &[_, shape, dtype, columns, data]) => {
                let order = if matches!(self.nodes[columns], Node::Int(1)) { Order::Columns } else { Order::Rows };
                Node::Array(Some(Parts { shape: Some(shape), dtype, order, data }))
            }
            (&Node::Dtype { name, .. }, &[_, order, ..]) => Node::Dtype { name, order: Some(order) },
            _ => return self.damaged("a state of something else"),
        };
        self.nodes[object] = changed;
        Ok(())
    }
}
