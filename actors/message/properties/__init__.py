"""What AMQP says of a message beside its body, read from the bytes of its content header and its delivery. Pure.

property_list    reads the basic properties, whatever their bytes are
fields           each of them as it stands
field_table      reads the header table in them
copy_properties  what a copy keeps of them
sent_with        what its copies carry in headers of ours
route            exchange and routing key
"""
