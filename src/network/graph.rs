//! A builder for networks that branch and sum.

use super::{
    Block, Image, LayerSpec, Network, NetworkError, Shape,
    block::{Layout, Role},
    node::{Activation, Node, Operation, Source},
};

/// A value while a graph is built: the data, or what a layer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(Option<usize>);

/// What a layer of the graph is while it is built.
#[derive(Clone, Debug)]
enum Kind {
    /// The block, and the rectifier and pool that have been found to stand right behind it.
    Linear(usize),
    Activation(Activation),
    /// The same values as its input.
    Flatten,
    Sum,
}

/// A layer while the graph is built.
#[derive(Clone, Debug)]
struct Layer {
    kind: Kind,
    /// As messages write it.
    text: String,
    inputs: Vec<Value>,
    shape: Shape,
    /// The image in whose order `[height, width, channels]` features lie, if they come of one.
    order: Option<Image>,
}

/// Builds a network whose layers form a graph without cycles: every layer takes values that are there already.
///
/// ```
/// use taylorscope::network::{Graph, LayerSpec, Rectifier};
///
/// let relu = LayerSpec::Rectifier(Rectifier::Relu);
/// let mut graph = Graph::new(4);
/// let hidden = graph.layers(graph.data(), &[LayerSpec::dense(4), relu, LayerSpec::dense(4)])?;
/// let sum = graph.sum(&[hidden, graph.data()])?;
/// let output = graph.layers(sum, &[relu, LayerSpec::dense(2)])?;
/// let network = graph.finish(output)?;
/// assert_eq!((network.blocks().len(), network.nodes().len()), (3, 5));
/// # Ok::<(), taylorscope::network::NetworkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    input: Shape,
    layers: Vec<Layer>,
    layout: Layout,
}

impl Graph {
    /// A graph on data of this shape: a number of features or an [`Image`].
    pub fn new(input: impl Into<Shape>) -> Self {
        Self { input: input.into(), layers: Vec::new(), layout: Layout::default() }
    }

    /// The data.
    pub fn data(&self) -> Value {
        Value(None)
    }

    /// The shape of a value.
    ///
    /// # Panics
    /// If the value is of another graph that is larger.
    pub fn shape(&self, value: Value) -> Shape {
        value.0.map_or(self.input, |at| self.layers[at].shape)
    }

    /// The image in whose order a value's features lie.
    fn order(&self, value: Value) -> Option<Image> {
        match value.0.map(|at| &self.layers[at]) {
            Some(Layer { order, .. }) => *order,
            // Flattened data stay in their own order.
            None => None,
        }
    }

    /// The shapes of all values so far, for messages.
    fn trail(&self) -> String {
        let mut trail = format!("input {}", self.input);
        for (index, Layer { text, shape, .. }) in self.layers.iter().enumerate() {
            trail.push_str(&format!("; {index} {text} -> {shape}"));
        }
        trail
    }

    fn push(&mut self, kind: Kind, text: String, inputs: Vec<Value>, shape: Shape, order: Option<Image>) -> Value {
        self.layers.push(Layer { kind, text, inputs, shape, order });
        Value(Some(self.layers.len() - 1))
    }

    /// Adds layers behind a value, one after the other.
    ///
    /// # Errors
    /// If a layer does not take what stands before it.
    pub fn layers(&mut self, input: Value, layers: &[LayerSpec]) -> Result<Value, NetworkError> {
        layers.iter().try_fold(input, |value, layer| self.layer(value, *layer))
    }

    /// Adds a layer behind a value.
    ///
    /// # Errors
    /// If the layer does not take the value.
    pub fn layer(&mut self, input: Value, layer: LayerSpec) -> Result<Value, NetworkError> {
        let (index, text) = (self.layers.len(), layer.to_string());
        let (shape, order) = (self.shape(input), self.order(input));
        let role = Role::new(layer, shape, order).map_err(|misfit| misfit.error(index, text.clone(), self.trail()))?;
        let (kind, shape, order) = match role {
            Role::Linear(linear) => (Kind::Linear(self.layout.push(index, &linear)?), linear.shape, None),
            Role::Rectifier(rectifier) => {
                (Kind::Activation(Activation { rectifier: Some(rectifier), pool: None }), shape, order)
            }
            Role::Pool(pool) => {
                let activation = Activation { rectifier: None, pool: Some(pool) };
                (Kind::Activation(activation), Shape::Image(pool.output), None)
            }
            Role::Flatten => {
                let order = match (shape, input.0) {
                    (Shape::Image(image), Some(_)) => Some(image),
                    _ => order,
                };
                (Kind::Flatten, Shape::Features(shape.len()), order)
            }
        };
        Ok(self.push(kind, text, vec![input], shape, order))
    }

    /// Adds the sum of values.
    ///
    /// # Errors
    /// If there are no values, or their shapes differ. Of images that were flattened the values lie in another order than other features: they
    /// are summed before they are flattened.
    pub fn sum(&mut self, terms: &[Value]) -> Result<Value, NetworkError> {
        let layer = self.layers.len();
        let Some(first) = terms.first() else { return Err(NetworkError::EmptySum { layer }) };
        let (shape, order) = (self.shape(*first), self.order(*first));
        for term in terms {
            if self.shape(*term) != shape {
                return Err(NetworkError::SumShapes { layer, one: shape, other: self.shape(*term) });
            }
            if self.order(*term) != order {
                return Err(NetworkError::SumOrder { layer, shape });
            }
        }
        Ok(self.push(Kind::Sum, "sum".to_owned(), terms.to_vec(), shape, order))
    }

    /// Checks the graph as a whole and makes its network. A rectifier or a pool that alone takes the value of the block before it becomes a part of
    /// the block.
    ///
    /// # Errors
    /// If the output is not that of a dense layer, or is taken by another layer, or there is a value that nobody takes.
    pub fn finish(self, output: Value) -> Result<Network, NetworkError> {
        let Self { input, layers, layout } = self;
        let mut uses = vec![0usize; layers.len()];
        for taken in layers.iter().flat_map(|layer| &layer.inputs).filter_map(|value| value.0) {
            uses[taken] += 1;
        }
        let last = output.0.ok_or(NetworkError::NoDenseLayer)?;
        if input.is_empty() {
            return Err(NetworkError::NoInputs);
        }
        let linear = matches!((&layers[last].kind, layers[last].shape), (Kind::Linear(_), Shape::Features(_)));
        if !linear || uses[last] > 0 {
            return Err(NetworkError::GraphOutput { layer: last });
        }
        if let Some(unused) = (0..layers.len()).find(|at| uses[*at] == 0 && *at != last) {
            return Err(NetworkError::Unused { layer: unused });
        }
        Ok(Fusion { input, uses, blocks: layout.blocks, nodes: Vec::new(), sources: Vec::new() }.network(&layers))
    }
}

/// Makes nodes of layers.
struct Fusion {
    input: Shape,
    /// How many layers take the value of each.
    uses: Vec<usize>,
    blocks: Vec<Block>,
    nodes: Vec<Node>,
    /// Where the value of each layer comes from.
    sources: Vec<Source>,
}

impl Fusion {
    fn network(mut self, layers: &[Layer]) -> Network {
        for (index, layer) in layers.iter().enumerate() {
            let source = self.source_of(index, layer, layers);
            self.sources.push(source);
        }
        Network::from_graph(self.input, self.blocks, self.nodes)
    }

    fn source_of(&mut self, index: usize, layer: &Layer, layers: &[Layer]) -> Source {
        let inputs: Vec<Source> = layer.inputs.iter().map(|value| self.source(*value, layer)).collect();
        let operation = match &layer.kind {
            // An image of the data is flattened in the data's own order.
            Kind::Flatten if layer.inputs[0].0.is_none() => return Source::Data,
            Kind::Flatten => return inputs[0],
            Kind::Activation(activation) => {
                // Nobody else may see what stands before the activation.
                let alone =
                    layer.inputs[0].0.is_some_and(|at| self.uses[at] == 1 && !matches!(layers[at].kind, Kind::Flatten));
                if alone && self.fuse(inputs[0], *activation, layer.shape) {
                    return inputs[0];
                }
                Operation::Activation(*activation)
            }
            Kind::Linear(block) => Operation::Block(*block),
            Kind::Sum => Operation::Sum,
        };
        let node = self.nodes.len();
        if let Operation::Block(l) = operation {
            self.blocks[l].place(node, inputs[0]);
        }
        self.nodes.push(Node { layer: index, operation, inputs, shape: layer.shape });
        Source::Node(node)
    }

    /// The source of a value as a layer takes it.
    fn source(&self, value: Value, taker: &Layer) -> Source {
        match (value.0, self.input, taker.shape) {
            (Some(at), ..) => self.sources[at],
            // What gives an image takes one, but a flattened one is in the data's order, as all features.
            (None, Shape::Image(image), Shape::Image(_)) if image.channels > 1 => Source::Image,
            _ => Source::Data,
        }
    }

    /// Puts an activation behind that of a node, if it is a part that stands behind what is there.
    fn fuse(&mut self, source: Source, activation: Activation, shape: Shape) -> bool {
        let Source::Node(node) = source else { return false };
        let own = match &self.nodes[node].operation {
            Operation::Block(l) => self.blocks[*l].activation(),
            Operation::Activation(own) => *own,
            Operation::Sum => return false,
        };
        let fits = own.pool.is_none() && (activation.rectifier.is_none() || own.rectifier.is_none());
        if !fits {
            return false;
        }
        let both = Activation { rectifier: own.rectifier.or(activation.rectifier), pool: activation.pool };
        match &mut self.nodes[node].operation {
            Operation::Block(l) => (self.blocks[*l].rectifier, self.blocks[*l].pool) = (both.rectifier, both.pool),
            Operation::Activation(own) => *own = both,
            Operation::Sum => {}
        }
        self.nodes[node].shape = shape;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Pooling, Rectifier};

    const RELU: LayerSpec = LayerSpec::Rectifier(Rectifier::Relu);
    const CONV: LayerSpec = LayerSpec::Conv { maps: 2, kernel: 3, padding: 1, stride: 1, bias: true };
    const POOL: LayerSpec = LayerSpec::Pool { pooling: Pooling::Max, size: 2, stride: 2 };
    const IMAGE: Image = Image { channels: 2, height: 4, width: 4 };

    #[test]
    fn a_list_and_its_graph_are_the_same_network() {
        let layers = [CONV, RELU, POOL, CONV, LayerSpec::Flatten, LayerSpec::dense(3), RELU, LayerSpec::dense(2)];
        let mut graph = Graph::new(IMAGE);
        let output = graph.layers(graph.data(), &layers).unwrap();
        let (network, list) = (graph.finish(output).unwrap(), Network::new(IMAGE, &layers).unwrap());
        assert_eq!((network.blocks(), network.nodes()), (list.blocks(), list.nodes()));
        assert!(network.is_chain() && !network.is_dense_chain());
        assert!(network.list("a trace").unwrap_err().to_string().contains("a trace") && list.list("a trace").is_ok());
    }

    #[test]
    fn only_what_nobody_else_takes_is_fused() {
        let mut graph = Graph::new(3);
        let a = graph.layer(graph.data(), LayerSpec::dense(3)).unwrap();
        let rectified = graph.layer(a, RELU).unwrap();
        let sum = graph.sum(&[a, rectified, graph.data()]).unwrap();
        let output = graph.layers(sum, &[RELU, LayerSpec::dense(2)]).unwrap();
        let network = graph.finish(output).unwrap();
        let relu = Operation::Activation(Activation { rectifier: Some(Rectifier::Relu), pool: None });
        let operations: Vec<Operation> = network.nodes().iter().map(|node| node.operation).collect();
        assert_eq!(operations, [Operation::Block(0), relu, Operation::Sum, relu, Operation::Block(1)]);
        assert_eq!(network.nodes()[2].inputs, [Source::Node(0), Source::Node(1), Source::Data]);
        assert_eq!((network.blocks()[1].node, network.blocks()[1].source), (4, Source::Node(3)));
        assert!(!network.is_dense_chain());
    }

    #[test]
    fn graphs_that_do_not_fit_are_refused() {
        let refused = |build: &dyn Fn(&mut Graph) -> Result<Value, NetworkError>| {
            let mut graph = Graph::new(IMAGE);
            build(&mut graph).and_then(|output| graph.finish(output)).unwrap_err().to_string()
        };
        let dense = LayerSpec::dense(32);
        let flat = |graph: &mut Graph| graph.layer(graph.data(), LayerSpec::Flatten);
        for (error, expected) in [
            (refused(&|graph| graph.sum(&[])), "sums nothing"),
            (
                refused(&|graph| {
                    let a = graph.layer(graph.data(), CONV)?;
                    let b = graph.layer(a, POOL)?;
                    graph.sum(&[a, b])
                }),
                "2x4x4 and 2x2x2",
            ),
            (
                refused(&|graph| {
                    let a = graph.layers(graph.data(), &[CONV, LayerSpec::Flatten])?;
                    let b = flat(graph)?;
                    graph.sum(&[a, b])
                }),
                "before they are flattened",
            ),
            (refused(&|graph| graph.layers(graph.data(), &[LayerSpec::Flatten, dense, RELU])), "layer 2, must be"),
            (refused(&|graph| graph.layer(graph.data(), CONV)), "layer 0, must be"),
            (
                refused(&|graph| {
                    let a = flat(graph)?;
                    graph.layer(a, dense)?;
                    graph.layer(a, dense)
                }),
                "nothing takes the value of layer 1",
            ),
            (refused(&|graph| graph.layer(graph.data(), dense)), "flatten"),
            (
                refused(&|graph| {
                    let a = flat(graph)?;
                    graph.layer(a, CONV)
                }),
                "needs an image",
            ),
            (refused(&|graph| Ok(graph.data())), "no layer with weights"),
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
