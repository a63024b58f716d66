"""What AMQP says of a message beside its body, read from the bytes of its content header and its delivery. Pure.

property_list  reads the basic properties, whatever their bytes are
fields         each of them as it stands
field_table    reads the header table in them
whole_copy     the properties of a copy that keeps its message whole
route          exchange and routing key
"""
