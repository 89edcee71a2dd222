"""The messages of the protocol keep to themselves."""

from google.protobuf import descriptor_pool

from plumbline.serving.grpc import open_inference_pb2 as pb


def test_the_messages_are_not_in_the_pool_that_all_libraries_share():
    assert pb.DESCRIPTOR.pool is not descriptor_pool.Default()
    assert pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name.startswith("inference.")
    assert len(pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods) == 20
