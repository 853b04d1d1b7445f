from .further import further_graphs as further_graphs, left_out as left_out, policy_graph as policy_graph
from .graphs import Graph as Graph, agent_graphs as agent_graphs
from .onnx import Exported as Exported, export_onnx as export_onnx
from .programs import export_programs as export_programs
from .runtime import (
    OnnxCritic as OnnxCritic,
    OnnxPerception as OnnxPerception,
    OnnxReadout as OnnxReadout,
    OnnxWorldModel as OnnxWorldModel,
    load_onnx as load_onnx,
)
